"""The run's Prometheus endpoint.

actor.py        what serves a run's metrics: an actor that outlives the workers, or, without Ray, an
                object of the driver's process
page_server.py  its HTTP server
families.py     the metric families of one page
snapshot.py     what rank 0 and the driver tell it, in plain numbers
client.py       rank 0's side of the actor: sends snapshots, asks whether training is to end
"""
