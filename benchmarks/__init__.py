"""Speed and memory of irlib's instruments, measured beside named alternatives in one run."""
