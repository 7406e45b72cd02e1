"""The run's Prometheus endpoint.

actor.py        the actor that serves a run's metrics and outlives its workers
page_server.py  its HTTP server
families.py     the metric families of one page
snapshot.py     what rank 0 and the driver tell it, in plain numbers
client.py       rank 0's side, which sends snapshots and asks whether training is to end
"""
