"""What irlib claims of speed, memory and safety, measured beside named alternatives in one run."""
