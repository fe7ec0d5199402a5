"""What rules of target groups may go by: each feature, and whether it is a word or a number.

Age, sex, language and whatever an identity code says are no features, and neither is anything of the credit register: a
rule can't name them. Payment behaviour is the company's own.
"""

#: Feature of a contract's load in a month to its type: the indicators of ``transforms.indicators``.
LOAD_FEATURES: dict[str, type] = {
    "peak_kw": float,
    "base_kw": float,
    "load_factor": float,
    "utilisation_hours": float,
    "night_share": float,
    "weekend_ratio": float,
    "midday_ratio": float,
    "winter_ratio": float,
    "solar_sign": str,
}

#: Feature to its type. Those of a contract's site and load count for a customer if any of the customer's contracts has
#: them.
FEATURES: dict[str, type] = {
    "heating": str,
    "building_type": str,
    "fuse_a": int,
    "tariff": str,
    "interest": str,
    "preferred_channel": str,
    "reminders": int,
    **LOAD_FEATURES,
}

#: Purposes of consents and objections that marketing has to do with, and for which campaigns may be used.
MARKETING_PURPOSES = ("direct_marketing", "profiling")
#: Channels that the register of bans must be current for.
BAN_CHANNELS = ("telephone", "post")
