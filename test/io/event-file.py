"""Records of event files by TensorBoard's own protocol buffers and record writer, and its reader.

tensorboard 2.21.0, protobuf 7.36.2:
    python test/io/event-file.py write > test/io/event-file.json    golden bytes
    python test/io/event-file.py read FOLDER                        what EventAccumulator sees in a folder
"""

import io
import json
import sys

from tensorboard.backend.event_processing import event_accumulator
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1700000000.5


def record(event):
    file = io.BytesIO()
    event.wall_time = TIME
    RecordWriter(file).write(event.SerializeToString())
    return file.getvalue().hex()


def summary(step, *values):
    return event_pb2.Event(step=step, summary=summary_pb2.Summary(value=values))


def scalar(tag, value):
    return summary_pb2.Summary.Value(tag=tag, simple_value=value)


def write():
    histogram = summary_pb2.HistogramProto(
        min=-1, max=2, num=4, sum=1.5, sum_squares=6.25, bucket_limit=[0, 2], bucket=[1, 3]
    )
    image = summary_pb2.Summary.Image(height=2, width=300, colorspace=3, encoded_image_string=b"\x01\x02\x03")
    started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    records = {
        "head": event_pb2.Event(file_version="brain.Event:2"),
        "scalar": summary(1, scalar("epoch/loss", 0.25)),
        "nan": summary(2, scalar("a", float("nan"))),
        "large step": summary(5_000_000_000, scalar("ä", -1e30)),
        "several": summary(300, scalar("a", 1), scalar("b", 2)),
        "histogram": summary(3, summary_pb2.Summary.Value(tag="w", histo=histogram)),
        "image": summary(4, summary_pb2.Summary.Value(tag="i", image=image)),
        "session start": event_pb2.Event(step=7, session_log=started),
    }
    print(json.dumps({"records": {name: record(event) for name, event in records.items()}}, indent=2))


def read(folder):
    everything = {kind: 0 for kind in ("scalars", "images", "histograms", "compressedHistograms", "tensors")}
    seen = event_accumulator.EventAccumulator(folder, size_guidance=everything)
    seen.Reload()
    tags = seen.Tags()
    histograms = {
        tag: [
            [h.step, v.min, v.max, v.num, v.sum, v.sum_squares, list(v.bucket_limit), list(v.bucket)]
            for h in seen.Histograms(tag)
            for v in [h.histogram_value]
        ]
        for tag in tags["histograms"]
    }
    images = {
        tag: [[i.step, i.width, i.height, i.encoded_image_string.hex()] for i in seen.Images(tag)]
        for tag in tags["images"]
    }
    scalars = {tag: [[s.step, s.value] for s in seen.Scalars(tag)] for tag in tags["scalars"]}
    print(json.dumps({"scalars": scalars, "histograms": histograms, "images": images}))


if __name__ == "__main__":
    write() if sys.argv[1] == "write" else read(sys.argv[2])
