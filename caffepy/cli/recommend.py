"""caffepy recommend: top lists of a trained recommender."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@options.model()
@click.option("--weights", required=True, help='Trained weights, separated by ",".')
@click.option("--user", default="", help="The user to recommend to, as the ratings call it.")
@click.option("--top", default=10, show_default=True, help="How many items.")
@click.option("--exclude-seen", is_flag=True, help="Leave out what the user has rated.")
@click.option("--titles", is_flag=True, help="Show titles, where convert-ratings was given --items.")
@click.option("--similar-to", default="", help="Instead: the items most similar to this one.")
@click.option("--explain", is_flag=True, help="Which of the user's ratings speak for each item.")
@click.option("--ratings", default="", help="Instead of --user, somebody new with these ratings: 50:5,172:4.")
@click.option("--output", default="", help="Write the lists of all users to this CSV file.")
@click.option("--test", default="", help="Print precision, recall, NDCG, ... over full rankings for this test.h5.")
@click.option("--relevant", default=0.0, help="With --test: ratings from here on are hits.")
@options.gpu
@options.engine
@options.max_memory
@options.no_python_layers
@options.force
@options.imports
@options.setting()
def command(
    model, weights, user, top, exclude_seen, titles, similar_to, explain, ratings, output, test, relevant, gpu, engine
):
    """Recommend items to a user, to somebody new, or to all users; or find items like another.

    Who or what has no ratings is ranked by the baseline, and the command says so.
    """
    from caffepy.cli import terminal
    from caffepy.errors import ConfigError
    from caffepy.net.net import Net
    from caffepy.proto.caffe_pb2 import TEST
    from caffepy.recommend import evaluation
    from caffepy.recommend.lists import Lists, parse_ratings
    from caffepy.recommend.scorer import Scorer

    asked = [name for name in (user, similar_to, ratings, output, test) if name]
    if len(asked) != 1:
        raise ConfigError(
            f"{len(asked)} questions at once" if asked else "nothing is asked",
            hint="Give one of --user, --similar-to, --ratings, --output, --test.",
        )
    if explain and not (user or ratings):
        raise ConfigError("--explain is about a user's list", hint="Give it with --user or --ratings.")
    if top < 1:
        raise ConfigError(f"--top must be at least 1, got {top}")
    scorer = Scorer(Net(model, TEST, weights=weights, engine=options.choose_engine(engine, gpu)))
    lists = Lists(scorer, top, exclude_seen)
    if test:
        for name, value in evaluation.ranking_metrics(scorer, test, top, relevant).items():
            terminal.echo(f"{name} = {value:.6g}")
        return
    if output:
        count, cold = lists.write(output, titles)
        terminal.echo(
            f"{output}: lists of {count} users" + (f", {cold} without ratings by the baseline" if cold else "")
        )
        return
    given = parse_ratings(ratings) if ratings else {}
    entries, note = (
        lists.similar(similar_to) if similar_to else lists.for_ratings(given) if given else lists.for_user(user)
    )
    if note:
        terminal.echo(note)
    for rank, entry in enumerate(entries, 1):
        terminal.echo(f"{rank}\t{entry.item}\t{entry.score:.4f}" + (f"\t{entry.title}" if titles else ""))
        if explain:
            for reason in lists.why_of_new(given, entry.item) if given else lists.why(user, entry.item):
                terminal.echo(f"\t\tbecause of {reason}")
