"""Many jobs that are mostly idle: their past in etcd, and what is measured of the replicas that have them."""
