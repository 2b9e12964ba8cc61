"""Imported by the process that children are forked from, which computes nothing: they find all modules there."""

import importlib
import pkgutil

_NAMES = (
    "h5py lmdb numpy.random caffepy.cli caffepy.layers caffepy.passes caffepy.pycaffe.solvers caffepy.solver "
    "tests.campaign.programs tests.campaign.trainings"
)
for _name in _NAMES.split():
    _module = importlib.import_module(_name)
    if _name in ("caffepy.cli", "caffepy.layers"):
        for _found in pkgutil.iter_modules(_module.__path__):
            importlib.import_module(f"{_name}.{_found.name}")
