"""Measurements that take time or depend on the machine: never part of the tests."""
