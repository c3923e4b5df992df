"""From a published config to the graph of one step."""
