"""A made-up fleet of metering points: reference, readings with the faults of real feeds, and the truth beside them."""
