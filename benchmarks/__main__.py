"""Measures and prints a table: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks._cases import CASES, Case
from benchmarks._harness import Scale
from benchmarks._machine import description
from benchmarks._profile import PROFILES, print_profile
from benchmarks._table import print_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a target is missed."""
    options = _parser().parse_args(arguments)
    scale = Scale(quick=options.quick, rounds=options.rounds)
    print(f"{description()}\n")
    if options.profile:
        print_profile(options.profile, scale)
        return 0
    chosen = [case for case in CASES if _is_chosen(case, options)]
    reached = print_table((row for case in chosen for row in case.rows(scale)), judged=not scale.quick)
    return 0 if reached else 1


def _parser() -> argparse.ArgumentParser:
    names = [case.name for case in CASES]
    long = ", ".join(case.name for case in CASES if case.takes_long)
    parser = argparse.ArgumentParser("python -m benchmarks", description="What anysaga costs, beside others.")
    parser.add_argument("--only", action="append", choices=names, metavar="CASE", help=f"one of {', '.join(names)}")
    parser.add_argument("--all", action="store_true", help=f"also the cases that take minutes: {long}")
    parser.add_argument("--quick", action="store_true", help="all cases, as small as can be: figures mean nothing")
    parser.add_argument("--profile", choices=PROFILES, help="where the time goes, by layer, instead of the table")
    parser.add_argument("--rounds", type=_positive, help="rounds of each case, instead of its own number")
    return parser


def _is_chosen(case: Case, options: argparse.Namespace) -> bool:
    if options.only:
        return case.name in options.only
    return options.all or options.quick or not case.takes_long


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give a number of 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
