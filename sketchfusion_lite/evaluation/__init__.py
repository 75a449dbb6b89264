"""How good a decoded photo is: metrics, peers, curves."""
