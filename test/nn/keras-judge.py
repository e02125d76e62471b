"""Reads models in Keras, writes its answers, and the models as Keras saves them (keras-judges.test.ts starts it):

python keras-judge.py FOLDER

NAME.in.json has the inputs of the model NAME, such as all.keras; NAME.out.json gets the answers or the error, and
again-NAME is the model saved anew.
"""
import glob, json, os, sys
import keras, numpy as np

folder = sys.argv[1]
for path in sorted(glob.glob(os.path.join(folder, "*.in.json"))):
    file = path[: -len(".in.json")]
    x = [np.array(given["values"], "f4").reshape(given["shape"]) for given in json.load(open(path))]
    try:
        model = keras.models.load_model(file, compile=False)
        y = model(x if len(x) > 1 else x[0], training=False)
        outputs = y if isinstance(y, (list, tuple)) else [y]
        result = [np.asarray(t.detach() if hasattr(t, "detach") else t, "f8").ravel().tolist() for t in outputs]
        model.save(os.path.join(folder, f"again-{os.path.basename(file)}"))
    except Exception as error:
        result = {"error": repr(error)[:1000]}
    json.dump(result, open(f"{file}.out.json", "w"))
print(keras.__version__)
