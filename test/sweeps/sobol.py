# Points of Sobol's sequence for test/sweeps/search.test.ts, as SciPy has them: python3 sobol.py > sobol.json
# Made with SciPy 1.17.1, whose directions are those of Joe and Kuo.
import json

import scipy
from scipy.stats import qmc

points = qmc.Sobol(64, scramble=False, bits=32).random(256)
chosen = {str(i): [int(x * 2**32) for x in points[i]] for i in (0, 1, 2, 3, 5, 17, 100, 128, 255)}
print(json.dumps({"scipy": scipy.__version__, "points": chosen}))
