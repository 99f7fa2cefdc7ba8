"""The drawn images that go into every bundle: samples for people, and a check that a model runs as it did."""
