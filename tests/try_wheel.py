"""Run with the Python of a clean environment in which only the built wheel is installed; not collected by pytest."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import softmaxcode as sc
import ufm
from softmaxcode.metrics import GeneralizedNeuralCollapse
from softmaxcode.nn import CodeClassifier

assert "site-packages" in sc.__file__, f"not the installed package: {sc.__file__}"
code = sc.solve(12, 3, starts=16, catalog=False, exact=False)
assert abs(code.margin - 0.55278640450004206) < 1e-14, code.margin
known = sc.best_known(100, 10)
assert known.margin > 0.6690 and "catalogue entry" in known.provenance.method, "no catalogue in the wheel"
command = Path(sys.executable).with_name("softmaxcode")
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "c.npz"
    code.save(file)
    print(subprocess.run([command, "check", file], check=True, capture_output=True, text=True).stdout)

head = CodeClassifier(known, temperature=0.1)
gnc = GeneralizedNeuralCollapse(100, 10)
gnc.set_classifier(head.weight)
gnc.update(head.weight, torch.arange(100))
assert abs(gnc.compute()["GNC2_ratio"] - 1) < 1e-5, gnc.compute()
run = ufm.simulate(K=6, d=3, n=1, temperature=0.02)
assert run.status == "stationary" and abs(run.margin - 1) < 1e-6, (run.reason, run.margin)
print("the wheel works")
