"""A Secret Manager server that speaks gRPC to the real client, as Google documents it."""
