"""A synthetic city: its feeders, customers, meters and senders, each drawn from one seed."""
