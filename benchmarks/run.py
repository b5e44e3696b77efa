"""Run the benchmarks and print their tables: `python -m benchmarks.run`."""

from benchmarks import answers, attention, cam, command, knockout, prefill, size, sweep

SCRIPTS = {
    "sweep": sweep, "answers": answers, "knockout": knockout, "cam": cam, "attention": attention,
    "prefill": prefill, "size": size,
}  # fmt: skip

if __name__ == "__main__":
    command.main(SCRIPTS)
