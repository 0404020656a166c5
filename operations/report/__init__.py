"""Make the report about all nodes: a page, a JSON file and a history, on the user's computer.

- `wear` computes how much is written to a card each day, and how long the card will last
- `history` reads and writes the file with the counters of all reports
- `contents` collects what a report says of each node
- `fixes` finds the page of the documents that says how to fix a problem
- `page` makes the report as HTML, with a diagram for each node
- `ending` has the callback that writes the files when the run ends

The deploy `chaos_engine.deploys.report` calls these modules. Nothing here changes a node.
"""
