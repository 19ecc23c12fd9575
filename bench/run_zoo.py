"""The zoo: what becomes of each of its models, and whether it is right.

    python bench/run_zoo.py FOLDER [MODEL ...] [--rounds N] [--jobs N] [--threads N] [--limit S]
                            [--again] [--report] [--rows FILE ...] [--older FILE ...] [--docs]

In:  models of bench/zoo, each in a process of its own: a crash, or a lack of memory, is one row.
Out: FOLDER/zoo.json and FOLDER/zoo.md; exit code 1 when a row is not right. FOLDER/rows.jsonl holds
     what is done: a run of the same code does those that are left, those that were not right, and,
     with timing, those that were not timed. After an interrupt (control-C) the tables hold what is
     done. With --docs the table goes to docs/generated/zoo.md.
A model is traced and compiled with the default options and an empty cache, and compared with eager
PyTorch by bench/zoo/compare.py. Calls of both alternate, and their medians are compared. With
--jobs and --threads several models run at once, each on cores of its own. Rows of another machine
and the same code, say those with timing, are taken in by --rows; a row that is not right goes
before one that is timed, and that before others. Where there is none, --older takes one that other
code made, and the table says so. A model whose library is missing is skipped.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import rich.console
import zoo
from zoo import jobs, rows
from zoo.table import describe_row, to_markdown

DOCS = Path(__file__).parents[1] / "docs/generated/zoo.md"


def main():
    args = parse_arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    code = rows.digest_code()
    done = rows.Rows([args.folder / "rows.jsonl", *args.rows], code, args.older)
    wanted = args.models or list(zoo.MODELS)
    if not args.report:
        left = [
            name
            for name in wanted
            if args.again or not done.is_done(name, is_timed=args.rounds > 0)
        ]
        run(left, done, args)
    made = [done.best(name) for name in wanted if done.best(name)]
    report = {"code": code, "of": len(zoo.MODELS), "models": made}
    (args.folder / "zoo.json").write_text(json.dumps(report, indent=1))
    text = to_markdown(report)
    (args.folder / "zoo.md").write_text(text)
    if args.docs:
        DOCS.write_text(text)
    print(text.partition("\n| ")[0])
    return 1 if any(row["status"] not in ("right", "skipped") for row in made) else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="takes the tables and what is done so far")
    parser.add_argument("models", nargs="*", help="names (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="to time; 0: none")
    parser.add_argument("--jobs", type=int, default=1, help="models at once")
    parser.add_argument(
        "--threads", type=int, help="of each model (default: its share of the cores)"
    )
    parser.add_argument("--limit", type=int, default=600, help="seconds for one model")
    parser.add_argument("--again", action="store_true", help="those that are done, too")
    parser.add_argument("--report", action="store_true", help="tables of what is done; runs none")
    parser.add_argument(
        "--rows", type=Path, nargs="+", default=[], help="rows.jsonl of other folders, to take in"
    )
    parser.add_argument(
        "--older",
        type=Path,
        nargs="+",
        default=[],
        help="rows.jsonl of other code, to fill up with",
    )
    parser.add_argument("--docs", action="store_true", help="write docs/generated/zoo.md, too")
    args = parser.parse_intermixed_args()
    if unknown := sorted(set(args.models) - set(zoo.MODELS)):
        parser.error(f"no model {unknown[0]!r}: expected some of {', '.join(zoo.MODELS)}")
    args.threads = args.threads or max(1, len(os.sched_getaffinity(0)) // args.jobs)
    return args


def run(names, done, args):
    console = rich.console.Console(stderr=True)
    with console.status("starting") as status:
        try:
            for i, row in enumerate(jobs.run(names, args, status.update)):
                done.add(row)
                print(f"{i + 1} of {len(names)}: {describe_row(row)}", flush=True)
        except KeyboardInterrupt:
            print("interrupted: the tables hold what is done")


if __name__ == "__main__":
    sys.exit(main())
