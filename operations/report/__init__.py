"""Make the report about all nodes: a page, a JSON file and a history, on the user's computer.

- `wear`: how much is written to a card each day, and how long the card will last
- `history`: the file with the counters of all reports
- `contents`: what a report says of each node
- `fixes`: which page of the documents says how to fix a problem
- `page`: the report as HTML, with a diagram for each node
- `ending`: the callback that writes the files when the run ends

The deploy `chaos_engine.deploys.report` calls these modules. Nothing here changes a node.
"""
