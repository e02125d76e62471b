# Writes lbfgs.json: where PyTorch's LBFGS with the strong Wolfe line search goes. Made with PyTorch 2.15 in float64:
#   python test/inputs/lbfgs.py > test/inputs/lbfgs.json
import json

import torch

torch.set_default_dtype(torch.float64)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def quadratic(x, y):
    return ((x - 1) ** 2).sum() + (3 * (y + 0.5) ** 2).sum() + (x.sum() * y.sum()) ** 2 / 50


def waves(x):
    return (torch.sin(3 * x) + x * x / 4).sum()


CASES = [
    ("rosenbrock", rosenbrock, [[-1.2, 1.0, 0.4, -0.3]], {"steps": 12, "evaluations": 100}),
    ("rosenbrock", rosenbrock, [[-1.2, 1.0, 0.4, -0.3]], {"steps": 30, "evaluations": 100, "historySize": 2}),
    ("rosenbrock", rosenbrock, [[-1.2, 1.0]], {"steps": 20}),
    ("rosenbrock", rosenbrock, [[0.5, 0.5, 0.5]], {"steps": 100, "evaluations": 7}),
    ("rosenbrock", rosenbrock, [[1.0, 1.0, 1.0]], {}),
    ("quadratic", quadratic, [[3.0, -2.0], [[0.1, 0.2], [1.5, -4.0]]], {"steps": 100}),
    ("waves", waves, [[2.0, -1.0, 0.3, 5.0]], {"steps": 30, "learningRate": 0.5}),
    ("waves", waves, [[2.0, -1.0, 0.3, 5.0]], {"steps": 3, "learningRate": 40.0, "evaluations": 60}),
]
WORDS = {"steps": "max_iter", "evaluations": "max_eval", "learningRate": "lr", "historySize": "history_size"}


def run(name, fn, starts, options):
    parameters = [torch.tensor(start, requires_grad=True) for start in starts]
    optimizer = torch.optim.LBFGS(
        parameters, line_search_fn="strong_wolfe", **{WORDS[key]: value for key, value in options.items()}
    )

    def closure():
        optimizer.zero_grad()
        value = fn(*parameters)
        value.backward()
        return value

    optimizer.step(closure)
    state = optimizer.state[parameters[0]]
    return {
        "function": name,
        "starts": starts,
        "options": options,
        "x": [p.detach().numpy().tolist() for p in parameters],
        "value": float(fn(*parameters).detach()),
        "steps": state["n_iter"],
        "evaluations": state["func_evals"],
    }


print(json.dumps({"torch": torch.__version__, "cases": [run(*case) for case in CASES]}))
