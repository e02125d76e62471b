// camera.py, written beside emotion.h5: the same as `kilograd camera` for those who have Python, OpenCV and Keras. The
// model takes the face's grey pixels as they are.

/** @param modelFile name of the model beside the script @param classNames in the model's order */
export function cameraScript(modelFile: string, classNames: readonly string[]): string {
  return `# python camera.py [CAMERA NUMBER, VIDEO, OR PICTURES AS FOLDER/%03d.png]; pip install keras torch "opencv-python<5"
import os, pathlib, sys
os.environ.setdefault("KERAS_BACKEND", "torch")
import cv2, keras

names = ${JSON.stringify(classNames).replaceAll(",", ", ")}
model = keras.models.load_model(pathlib.Path(__file__).with_name("${modelFile}"), compile=False)
finder = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
source = sys.argv[1] if len(sys.argv) > 1 else "0"
frames = cv2.VideoCapture(int(source) if source.isdigit() else source)
while (read := frames.read())[0]:
    grey = cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY)
    faces = finder.detectMultiScale(grey, 1.1, 4)
    for x, y, w, h in faces:
        face = cv2.resize(grey[y : y + h, x : x + w], (48, 48), interpolation=cv2.INTER_AREA)
        answer = model.predict(face[None, :, :, None].astype("float32"), verbose=0)[0]
        print(f"{names[answer.argmax()]} {answer.max():.0%}  face {w}x{h} at {x},{y}", flush=True)
    if len(faces) == 0:
        print("no face", flush=True)
`;
}
