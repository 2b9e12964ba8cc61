"""Metrics over whole tests: against plain NumPy, scikit-learn and, where it is installed, torchmetrics."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError
from tests.support import ENGINES, Built

RANDOM = np.random.default_rng(0)
N, K = 300, 6
SCORES = (RANDOM.integers(0, 12, (N, K)) / 12).astype("f4")  # with ties
SCORES[:, 5] = -1  # a class that is never predicted,
LABELS = RANDOM.integers(0, 4, N)  # and two, 4 and 5, that do not occur, 5 in neither
SCORES[np.arange(N), LABELS] += RANDOM.integers(0, 2, N).astype("f4") / 2
PREDICTED = SCORES.argmax(axis=1)
TRUE = (RANDOM.random((N, K)) < 0.2).astype("f4")
TRUE[:, 4] = 0  # a class without positives
PROBABILITY = (RANDOM.integers(1, 20, (N, 1)) / 20).astype("f4")
BINARY = (RANDOM.random(N) < PROBABILITY[:, 0]).astype("f4")


def over_test(layer: str, *bottoms, engine: str = "numpy", top: int = 0, tops: int = 1):
    """What a meter comes to that has seen the bottoms in batches of unequal size, some in another process."""
    cuts = (0, 7, 150, 151, N)
    built = Built(layer, *(b[:7] for b in bottoms), engine=engine, tops=tops)
    first, second = built.layer.meter(top), built.layer.meter(top)
    for i, (start, stop) in enumerate(itertools.pairwise(cuts)):
        for blob, values in zip(built.bottom, bottoms):
            blob.reshape(*values[start:stop].shape)
            blob.fill(values[start:stop])
        built.forward()
        (first, second)[i % 2].add(built.top[top], built.bottom, 1)
    first.merge(second)
    return first.value()


def triples(average: str | None = None) -> np.ndarray:
    """Precision, recall and F1, (K, 3) or those of one number, by counting in a loop."""
    rows, support = [], []
    for k in range(K):
        tp = sum(1 for a, b in zip(LABELS, PREDICTED) if a == b == k)
        said, true = sum(k == PREDICTED), sum(k == LABELS)
        p, r = tp / said if said else 0, tp / true if true else 0
        rows.append((p, r, 2 * p * r / (p + r) if p + r else 0))
        support.append((true, said))
    found = np.array(rows)
    if average == "MICRO":
        return np.full(3, np.mean(LABELS == PREDICTED))
    if average == "WEIGHTED":
        return np.average(found, axis=0, weights=[true for true, _ in support])
    return found[[any(s) for s in support]].mean(axis=0) if average else found


def step_sum(scores, right) -> float:
    """Average precision: at each distinct score, the precision of all that are at least as high."""
    total, before = 0.0, 0.0
    for s in sorted(set(scores.tolist()), reverse=True):
        above = scores >= s
        recall = right[above].sum() / right.sum()
        total, before = total + (recall - before) * right[above].mean(), recall
    return total


MULTI = "metric_param { average: %s }"


@pytest.mark.parametrize("engine", ENGINES)
class TestAgainstNumpy:
    def test_confusion_matrix(self, engine):
        found = over_test('type: "ConfusionMatrix"', SCORES, LABELS, engine=engine)
        expected = {f"{i}/{j}": sum((i == LABELS) & (j == PREDICTED)) for i in range(K) for j in range(K)}
        assert found == expected
        batch = Built('type: "ConfusionMatrix"', SCORES, LABELS, engine=engine).forward()[0]
        assert batch.ravel().tolist() == list(expected.values())

    @pytest.mark.parametrize("average", ["MACRO", "MICRO", "WEIGHTED"])
    def test_precision_recall(self, average, engine):
        found = over_test(f'type: "PrecisionRecall" {MULTI % average}', SCORES, LABELS, engine=engine)
        assert list(found) == ["precision", "recall", "f1"]
        np.testing.assert_allclose(list(found.values()), triples(average), rtol=1e-12)
        batch = Built(f'type: "PrecisionRecall" {MULTI % average}', SCORES, LABELS, engine=engine).forward()[0]
        np.testing.assert_allclose(batch, triples(average), rtol=1e-6)

    def test_precision_recall_of_each_class(self, engine, tmp_path):
        (tmp_path / "labels.txt").write_text("cat\ndog\nbird\ncow\nnone\nnever\n")
        layer = f'type: "PrecisionRecall" metric_param {{ labels_file: "{tmp_path}/labels.txt" }}'
        found = over_test(layer, SCORES, LABELS, engine=engine, top=1, tops=2)
        assert found["dog/recall"] == pytest.approx(triples()[1, 1]) and found["never/f1"] == 0
        np.testing.assert_allclose(list(found.values()), triples().ravel(), rtol=1e-12)

    def test_one_score_an_item_is_a_probability(self, engine):
        found = over_test('type: "PrecisionRecall" metric_param { threshold: 0.4 }', PROBABILITY, BINARY, engine=engine)
        said = PROBABILITY[:, 0] > np.float32(0.4)
        assert found["precision"] == pytest.approx(BINARY[said].mean())
        assert found["recall"] == pytest.approx(said[BINARY == 1].mean())

    def test_mean_iou(self, engine):
        pairs = [((k == LABELS), (k == PREDICTED)) for k in range(K)]
        each = [(a & b).sum() / (a | b).sum() for a, b in pairs if (a | b).any()]
        assert len(each) == 5
        assert over_test('type: "MeanIoU"', SCORES, LABELS, engine=engine) == pytest.approx(np.mean(each), rel=1e-12)
        of_classes = over_test('type: "MeanIoU"', SCORES, LABELS, engine=engine, top=1, tops=2)
        assert of_classes == pytest.approx({**dict(zip("01234", each)), "5": 0})

    def test_average_precision(self, engine):
        found = over_test('type: "AveragePrecision"', PROBABILITY[:, 0], BINARY, engine=engine)
        assert found == pytest.approx(step_sum(PROBABILITY[:, 0], BINARY))
        each = [step_sum(SCORES[:, k], TRUE[:, k]) if k != 4 else 0 for k in range(K)]
        found = over_test('type: "AveragePrecision"', SCORES, TRUE, engine=engine)
        assert found == pytest.approx(np.mean(each))
        of_classes = over_test('type: "AveragePrecision"', SCORES, LABELS, engine=engine, top=1, tops=2)
        one_hot = [step_sum(SCORES[:, k], k == LABELS) for k in range(4)]
        assert list(of_classes.values()) == pytest.approx([*one_hot, 0, 0])

    def test_what_is_masked_or_ignored_does_not_count(self, engine):
        mask = RANDOM.random(N) < 0.5
        for text, kept in [("", mask), ("metric_param { ignore_label: 2 }", mask & (LABELS != 2))]:
            found = over_test(f'type: "AveragePrecision" {text}', SCORES, LABELS, mask, engine=engine)
            present = sorted(set(LABELS[kept].tolist()))
            expected = np.sum([step_sum(SCORES[kept, k], LABELS[kept] == k) for k in present]) / K
            assert found == pytest.approx(expected)
        ignoring = "metric_param { ignore_label: 2 }"
        found = over_test(f'type: "ConfusionMatrix" {ignoring}', SCORES, LABELS, engine=engine)
        assert found["2/2"] == 0 and sum(found.values()) == sum(LABELS != 2)
        found = over_test(f'type: "LogLoss" {ignoring}', np.full((N, K), 0.5), LABELS, engine=engine)
        assert found == pytest.approx(np.log(2))

    def test_log_loss_of_classes(self, engine):
        p = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
        expected = -np.log(p[np.arange(N), LABELS].astype(float)).mean()
        assert over_test('type: "LogLoss"', p, LABELS, engine=engine) == pytest.approx(expected)

    def test_perplexity(self, engine):
        x, labels = SCORES.reshape(N, K // 2, 2), RANDOM.integers(0, 3, (N, 2))
        p = np.exp(x.astype(float))
        p = np.take_along_axis(p / p.sum(1, keepdims=True), labels[:, None], 1)[:, 0]
        assert over_test('type: "Perplexity"', x, labels, engine=engine) == pytest.approx(np.exp(-np.log(p).mean()))
        ignoring = 'type: "Perplexity" metric_param { ignore_label: 1 }'
        expected = np.exp(-np.log(p[labels != 1]).mean())
        assert over_test(ignoring, x, labels, engine=engine) == pytest.approx(expected)
        assert Built(ignoring, x[:2], np.ones((2, 2)), engine=engine).forward()[0] == 1

    def test_named_accuracies_are_of_all_items(self, engine, tmp_path):
        names = ["cat", "dog", "bird", "cow", "none", "never"]
        (tmp_path / "labels.txt").write_text("\n".join(names))
        fields = f'top_k: 2 ignore_label: 3 labels_file: "{tmp_path}/labels.txt"'
        layer = f'type: "Accuracy" accuracy_param {{ {fields} }}'
        true = SCORES[np.arange(N), LABELS][:, None]
        right, kept = (true <= SCORES).sum(1) <= 2, LABELS != 3
        assert over_test(layer, SCORES, LABELS, engine=engine) == pytest.approx(right[kept].mean())
        each = over_test(layer, SCORES, LABELS, engine=engine, top=1, tops=2)
        assert each == pytest.approx({name: right[k == LABELS].mean() if k < 3 else 0 for k, name in enumerate(names)})

    def test_seconds_a_batch(self, engine, monkeypatch):
        times = iter(np.arange(100.0).tolist())
        monkeypatch.setattr("caffepy.layers.time.time.perf_counter", lambda: next(times))
        assert over_test('type: "Time"', SCORES, engine=engine) == 4  # two meters, read in turns


@pytest.mark.filterwarnings("ignore")
class TestAgainstScikitLearn:
    @pytest.fixture(autouse=True)
    def metrics(self):
        pytest.importorskip("sklearn")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from sklearn import metrics
        self.m = metrics

    def near(self, found, expected):
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6)

    def test_confusion_matrix(self):
        found = over_test('type: "ConfusionMatrix"', SCORES, LABELS)
        self.near(list(found.values()), self.m.confusion_matrix(LABELS, PREDICTED, labels=range(K)).ravel())

    @pytest.mark.parametrize("average", ["MACRO", "MICRO", "WEIGHTED", None])
    def test_precision_recall(self, average):
        text = f'type: "PrecisionRecall" {MULTI % (average or "MACRO")}'
        top, labels = (0, None) if average else (1, range(K))
        found = over_test(text, SCORES, LABELS, top=top, tops=2)
        expected = self.m.precision_recall_fscore_support(
            LABELS, PREDICTED, average=average and average.lower(), labels=labels, zero_division=0
        )[:3]
        self.near(list(found.values()), np.array(expected).T.ravel())

    def test_binary(self):
        found = over_test('type: "PrecisionRecall"', PROBABILITY, BINARY)
        expected = self.m.precision_recall_fscore_support(BINARY, PROBABILITY[:, 0] > 0.5, average="binary")[:3]
        self.near(list(found.values()), expected)
        self.near(over_test('type: "AUC"', PROBABILITY, BINARY), self.m.roc_auc_score(BINARY, PROBABILITY[:, 0]))
        expected = self.m.average_precision_score(BINARY, PROBABILITY[:, 0])
        self.near(over_test('type: "AveragePrecision"', PROBABILITY, BINARY), expected)
        expected = self.m.log_loss(BINARY, PROBABILITY[:, 0].astype(float))
        self.near(over_test('type: "LogLoss"', PROBABILITY, BINARY), expected)

    def test_mean_average_precision(self):
        found = over_test('type: "AveragePrecision"', SCORES, TRUE, top=1, tops=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = self.m.average_precision_score(TRUE, SCORES, average=None)
        self.near(list(found.values()), expected)

    def test_mean_iou(self):
        expected = self.m.jaccard_score(LABELS, PREDICTED, average="macro")
        self.near(over_test('type: "MeanIoU"', SCORES, LABELS), expected)

    def test_errors(self):
        x, y = SCORES, TRUE
        self.near(over_test('type: "RMSE"', x, y), self.m.mean_squared_error(y.ravel(), x.ravel()) ** 0.5)
        self.near(over_test('type: "MAE"', x, y), self.m.mean_absolute_error(y.ravel(), x.ravel()))

    def test_log_loss_and_top_k(self, tmp_path):
        p = (np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)).astype("f4")
        expected = self.m.log_loss(LABELS, p.astype(float) / p.astype(float).sum(1, keepdims=True), labels=range(K))
        self.near(over_test('type: "LogLoss"', p, LABELS), expected)
        (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\nf")
        x = RANDOM.permutation(N * K).reshape(N, K).astype("f4")  # without ties, which scikit-learn counts by order
        found = over_test(
            f'type: "Accuracy" accuracy_param {{ top_k: 3 labels_file: "{tmp_path}/labels.txt" }}', x, LABELS
        )
        self.near(found, self.m.top_k_accuracy_score(LABELS, x, k=3, labels=range(K)))


@pytest.mark.filterwarnings("ignore")
def test_against_torchmetrics():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional")
    x, label = torch.tensor(SCORES), torch.tensor(LABELS)
    options = {"num_classes": K, "average": "macro"}

    def near(layer, expected, *bottoms, key=None):
        found = over_test(layer, *bottoms)
        assert (found[key] if key else found) == pytest.approx(float(expected), abs=1e-6)

    kind = 'type: "PrecisionRecall"'
    near(kind, functional.classification.multiclass_precision(x, label, **options), SCORES, LABELS, key="precision")
    near(kind, functional.classification.multiclass_recall(x, label, **options), SCORES, LABELS, key="recall")
    near(kind, functional.classification.multiclass_f1_score(x, label, **options), SCORES, LABELS, key="f1")
    near('type: "MeanIoU"', functional.classification.multiclass_jaccard_index(x, label, **options), SCORES, LABELS)
    true = torch.tensor(TRUE).long()
    # Without its own sigmoid, which would round scores: they must lie in 0 .. 1.
    scores = torch.tensor(np.clip(SCORES, 0, 2) / 2)
    expected = functional.classification.multilabel_average_precision(scores, true, num_labels=K, average="macro")
    near('type: "AveragePrecision"', expected, scores.numpy(), TRUE)
    p, binary = torch.tensor(PROBABILITY[:, 0]), torch.tensor(BINARY).long()
    near('type: "AUC"', functional.classification.binary_auroc(p, binary), PROBABILITY, BINARY)
    words = torch.tensor(SCORES.reshape(N // 2, 2, K))
    expected = functional.text.perplexity(words, label.reshape(N // 2, 2))
    near('type: "Perplexity"', expected, SCORES, LABELS)


def test_a_confusion_matrix_of_many_classes_names_what_occurs():
    x = np.eye(40)[[0, 1, 1]]
    built = Built('type: "ConfusionMatrix"', x, [0, 1, 2])
    meter = built.layer.meter(0)
    built.forward()
    meter.add(built.top[0], built.bottom, 1)
    assert meter.value() == {"0/0": 1, "1/1": 1, "2/1": 1}


def test_bad_input(tmp_path):
    names = tmp_path / "labels.txt"
    layer = f'type: "MeanIoU" metric_param {{ labels_file: "{names}" }}'
    with pytest.raises(DataError) as caught:
        Built(layer, SCORES, LABELS)
    assert str(caught.value) == f"{names}: cannot read the file: No such file or directory"
    names.write_text("cat\ndog\n")
    with pytest.raises(DataError) as caught:
        Built(layer, SCORES, LABELS)
    assert str(caught.value) == f"{names}: 2 names for 6 classes\n  Give one line for each class, in order."
    names.write_text("cat\ndog\ncat\n")
    with pytest.raises(DataError) as caught:
        Built(layer, SCORES, LABELS)
    assert str(caught.value).startswith(f'{names}:3: the class "cat" is that of line 1 already')
    with pytest.raises(ConfigError, match="average: BINARY is for 2 classes, there are 6"):
        Built('type: "PrecisionRecall" metric_param { average: BINARY }', SCORES, LABELS)
    with pytest.raises(DataError, match=r"label 6 at position \(1,\) of bottom 1 is outside 0 .. 5"):
        Built('type: "AveragePrecision"', SCORES[:2], [0, 6]).forward()
