"""Reviews: what is found in one net, and in one solver with its nets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from caffepy.errors import CaffeError
from caffepy.proto import dialects, settings, text
from caffepy.proto.caffe_pb2 import NetState, SolverParameter
from caffepy.show.draft import Draft, Problem, Sources, draft
from caffepy.show.lint import net_rules, solver_rules  # noqa: F401  (they register)
from caffepy.show.lint.absence import of_absent
from caffepy.show.lint.finding import ERROR, NOTE, WARNING, Finding, of_error
from caffepy.show.lint.registry import NET_RULES, SOLVER_RULES, STATE_RULES, Fault
from caffepy.show.lint.solvers import SolverSubject
from caffepy.show.lint.states import meant, name_of, states_of
from caffepy.show.lint.weight_rules import of_weights
from caffepy.solver import nets


@dataclass
class Review:
    """A file, what was built of it, and what was found."""

    file: str
    kind: str = ""
    """"net" or "solver"; "" for what is neither."""
    name: str = ""
    states: list[tuple[str, Draft]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def fails(self) -> bool:
        """Whether it could not train or run."""
        return any(finding.level == ERROR for finding in self.findings)


class Reviewer:
    """Looks at definitions; `weights` are files to be checked against the nets."""

    def __init__(self, new_sources: Callable[[], Sources], weights: list[str]):
        self.new_sources, self.weights = new_sources, weights
        self.tops: set[str] = set()
        """All that sources of the nets make."""

    def review(self, file: str) -> Review:
        """All that is found in a file."""
        review = Review(file)
        try:
            source = text.read_text(file)
            review.kind = "solver" if _is_solver(source) else "net"
            if review.kind == "solver":
                self._solver(review, source)
            else:
                definition = text.read_net(file)
                settings.current().tell([definition.param])
                self._net(review, definition)
        except CaffeError as error:
            review.findings.append(of_error(error, "cannot-be-read", file))
        review.findings = sorted(_merged(review.findings), key=lambda f: (f.file != file, f.file, f.line, f.column))
        return review

    # Nets

    def _net(self, review: Review, definition: text.Definition) -> None:
        review.name = definition.param.name
        self._states(review, definition, states_of(definition.param), review.file)

    def _states(
        self, review: Review, definition: text.Definition, states: list[NetState], file: str, chosen: bool = False
    ) -> list[Draft]:
        """Build a net in these states and look at it. `chosen`: somebody wants to build it in each of them."""
        sources = self.new_sources()
        all_drafts = [draft(definition, state, sources) for state in states]
        drafts = all_drafts if chosen else meant(all_drafts)
        names = {id(one): name_of(one.param.state) for one in drafts}
        review.states += [(names[id(one)], one) for one in drafts]
        review.findings += _of_file(definition, file)
        for one in all_drafts:
            if one not in drafts:
                review.findings.append(_not_meant(one, file))
        found: list[tuple[str, Finding]] = []
        for one in drafts:
            found += [(names[id(one)], finding) for finding in self._of_state(one, definition, file)]
        review.findings += _with_states(found, len(drafts))
        if all(one.is_wired for one in drafts):
            for rule, look in NET_RULES.items():
                review.findings += [_of_fault(fault, rule, file) for fault in look(drafts)]
        kept = {node.layer.name for one in drafts for node in one.nodes}
        review.findings += of_absent(sources, definition, file, kept)
        review.findings += of_weights(self.weights, drafts, file)
        self.tops |= sources.tops
        return drafts

    def _of_state(self, net: Draft, definition: text.Definition, file: str) -> Iterator[Finding]:
        for problem in net.problems:
            yield _of_problem(problem, net, file)
        if net.is_wired:
            for rule, look in STATE_RULES.items():
                yield from (_of_fault(fault, rule, file) for fault in look(net))

    # Solvers

    def _solver(self, review: Review, source: str) -> None:
        param = text.read_solver(review.file)
        subject = SolverSubject(review.file, param)
        try:
            planned = nets.train_net(param)
            files = _files(param)
            review.name = planned.definition.param.name
            (subject.train,) = self._states(review, planned.definition, [planned.state], files[0], chosen=True)
            for i, test in enumerate(nets.test_nets(param)):
                file = files[min(i + 1, len(files) - 1)]
                subject.tests += self._states(review, test.definition, [test.state], file, chosen=True)
        except CaffeError as error:
            review.findings.append(_in_solver(error, param, review.file, source))
        for rule, look in SOLVER_RULES.items():
            review.findings += [_of_fault(fault, rule, review.file, source) for fault in look(subject)]


def _is_solver(source: str) -> bool:
    """By the fields that only one of the two has."""
    from caffepy.proto.caffe_pb2 import NetParameter

    solver, net = set(SolverParameter.DESCRIPTOR.fields_by_name), set(NetParameter.DESCRIPTOR.fields_by_name)
    names = text.field_names(source)
    return len(names & (solver - net)) > len(names & (net - solver))


def _files(p: SolverParameter) -> list[str]:
    """The files of the train net and of the test nets, the solver's own names for them."""
    first = p.train_net or p.net
    return [first, *([""] * len(p.test_net_param)), *p.test_net, p.net]


def _in_solver(error: CaffeError, param: SolverParameter, file: str, source: str) -> Finding:
    """What is wrong with the nets that a solver names; a file that is not there is missing where it is named."""
    fields = {param.net: "net", param.train_net: "train_net", **dict.fromkeys(param.test_net, "test_net")}
    if not error.where or error.where not in fields:
        return of_error(error, "net-cannot-be-read", file)
    line, column = text.field_place(source, fields[error.where]) or (0, 0)
    message = f'"{error.where}": {error.message}'
    return Finding(ERROR, "net-cannot-be-read", message, error.hint, file, line, column)


def _of_file(definition: text.Definition, file: str) -> Iterator[Finding]:
    """What is good to know of a file's age and dialect."""
    if steps := definition.upgraded.steps:
        yield Finding(NOTE, "old-format", f"written for an older Caffe, read as it is meant: {', '.join(steps)}",
                      "caffepy upgrade-net-proto-text writes it anew.", file)  # fmt: skip
    for lost in definition.upgraded.lost:
        yield Finding(WARNING, "field-is-lost", lost, file=file)
    for mention in definition.foreign:
        if mention.name.removeprefix("LayerParameter.") in dialects.UNKNOWN_PARAMS:
            continue  # its layer is refused
        yield Finding(NOTE, "foreign-field", f"{mention.name} is of another Caffe, and changes nothing here",
                      "", file, mention.line, mention.column)  # fmt: skip


def _not_meant(net: Draft, file: str) -> Finding:
    error = net.problems[0].error
    why = error.hint.rstrip(".") if net.problems[0].left_out else error.message
    return Finding(NOTE, "state-is-not-meant", f"not built in {name_of(net.param.state)}: {why}", file=file)


def _of_problem(problem: Problem, net: Draft, file: str) -> Finding:
    finding = of_error(problem.error, "cannot-be-built", file)
    finding = finding._replace(layer=finding.layer or problem.layer)
    finding = finding._replace(message=finding.message.removeprefix(f'layer "{finding.layer}": '))
    if problem.guessed:
        remedy = "The shape of a source is a guess: if this is not so, give it with --shape NAME=N,C,H,W."
        finding = finding._replace(level=WARNING, rule="does-not-fit-a-guess", remedy=remedy)
    return finding


def _of_fault(fault: Fault, rule: str, file: str, source: str = "") -> Finding:
    """A rule's fault as a finding, at its layer or its field."""
    finding = Finding(fault.level, rule, fault.message, fault.remedy, file)
    if fault.node is not None:
        at = of_error(CaffeError("", where=fault.node.place), rule, file)
        return finding._replace(file=at.file, line=at.line, column=at.column, layer=fault.node.layer.name)
    place = text.field_place(source, fault.field) if fault.field and source else None
    return finding._replace(line=place[0], column=place[1]) if place else finding


def _with_states(found: list[tuple[str, Finding]], count: int) -> list[Finding]:
    """Each finding once, with the states that have it where not all do."""
    states: dict[Finding, list[str]] = {}
    for state, finding in found:
        states.setdefault(finding, []).append(state)
    return [f if len(set(names)) == count else f._replace(states=tuple(dict.fromkeys(names)))
            for f, names in states.items()]  # fmt: skip


def _merged(findings: list[Finding]) -> list[Finding]:
    """Each finding once: train and test nets of a solver are often one file."""
    return list(dict.fromkeys(findings))
