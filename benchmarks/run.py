"""Run the benchmarks and print their tables: `python -m benchmarks.run`."""

from benchmarks import (
    answers,
    attention,
    cam,
    command,
    knockout,
    lens,
    patching,
    prefill,
    size,
    sweep,
)

SCRIPTS = {
    "sweep": sweep, "answers": answers, "knockout": knockout, "patching": patching, "cam": cam,
    "attention": attention, "lens": lens,
    "prefill": prefill, "size": size,
}  # fmt: skip

if __name__ == "__main__":
    command.main(SCRIPTS)
