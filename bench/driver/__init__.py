"""What tools/bench, tools/replay, tools/tune and tools/report share."""
