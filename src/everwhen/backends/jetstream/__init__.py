"""A log on a NATS JetStream cluster, and a replica of all of it in a file on each node."""
