"""What can be run: langgraph.json, the graphs it names, their assistants."""
