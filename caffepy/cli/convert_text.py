"""caffepy convert-text: text files to a vocabulary and files of tokens for TextData."""

from __future__ import annotations

import logging

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.convert_text")


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.argument("out")
@click.option(
    "--level", type=options.choice(["CHAR", "WORD", "BYTE", "BPE"]),
    help="What a token is: a character, a word, a byte, a piece of a word (default: CHAR, with --vocab-size BPE, with "
    "tags WORD).",
)  # fmt: skip
@click.option("--vocab-size", type=click.IntRange(min=2), help="Tokens of the vocabulary, at most (BPE: 2048).")
@click.option("--vocabulary", default="", help="Use this vocabulary.json instead of making one.")
@click.option(
    "--labels", type=options.choice(["NEXT", "SENTENCE", "TOKEN"]), default="NEXT", show_default=True,
    help="NEXT: one text. SENTENCE: a line is a sentence, a tab and a label. TOKEN: words, a tab and a tag for each.",
)  # fmt: skip
@click.option("--split", default="", help="Shares of the text for train, val and test, 80,10,10, or train and test.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True,
    help="Of the permutation before labelled lines are split.",
)  # fmt: skip
@options.max_memory
def command(files, out, level, vocab_size, vocabulary, labels, split, seed):
    """Convert text FILES to OUT/vocabulary.json and OUT/train.h5, with --split also val.h5 and test.h5.

    The vocabulary is that of train alone; what it lacks elsewhere is unknown. One text is divided where its shares end.
    """
    from caffepy.cli import terminal
    from caffepy.data.texts import convert
    from caffepy.data.texts import vocabulary as vocabularies

    terminal.start_logging()
    if vocabulary:
        level = level or vocabularies.read(vocabulary).level
    level = level or ("WORD" if labels == "TOKEN" else "BPE" if vocab_size else "CHAR")
    task = convert.TextTask(level, labels, vocab_size or 0, vocabulary, split, seed)
    known, found = convert.convert(files, task)
    for part, path in convert.write(out, known, found).items():
        tokens = found[part]
        lines = "" if labels == "NEXT" else f" in {len(tokens.ends)} sentences"
        missing = convert.unknown(tokens, known)
        log.info("%s: %d tokens%s%s", path, len(tokens.tokens), lines, f", {missing:.2%} unknown" if missing else "")
    named = f", labels {', '.join(known.labels)}" if known.labels else ""
    log.info("%s/%s: %d tokens of level %s%s", out, vocabularies.VOCABULARY, known.size, known.level, named)
