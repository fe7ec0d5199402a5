"""Words of the law that a policy may use: legal bases of processing, kinds of recipients, languages of texts."""

#: Legal basis to its place in the General Data Protection Regulation.
LEGAL_BASES = {
    "consent": "Art. 6(1)(a)",
    "contract": "Art. 6(1)(b)",
    "legal_obligation": "Art. 6(1)(c)",
    "vital_interests": "Art. 6(1)(d)",
    "public_task": "Art. 6(1)(e)",
    "legitimate_interests": "Art. 6(1)(f)",
}
#: Legal bases that say nothing alone: a purpose has to say which law, task or interest.
NEED_A_GROUND = ("legal_obligation", "public_task", "legitimate_interests")

#: What somebody outside the company is to it.
RECIPIENT_KINDS = ("partner", "subsidiary", "service_provider", "subcontractor", "authority")

#: Languages of a policy's texts.
LANGUAGES = ("fi", "en")
