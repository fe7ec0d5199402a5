"""What fields, classes and legal bases are called in the privacy notice, and its fixed texts, in every language."""

from importlib.resources import files
from typing import Any

import yaml

_NOTICE: dict[str, Any] = yaml.safe_load((files("schemas") / "notice.yaml").read_text(encoding="utf-8"))
#: Headings, fixed texts and heads of tables: name to language to text.
TITLES: dict[str, dict[str, str]] = _NOTICE["titles"]
TEXTS: dict[str, dict[str, str]] = _NOTICE["texts"]
#: Rights of data subjects, by language.
RIGHTS: dict[str, list[str]] = _NOTICE["rights"]

#: Field class to its name.
CLASS_WORDS = {
    "direct_identifier": {"fi": "Tunnistetiedot", "en": "Identifying data"},
    "identity_code": {"fi": "Henkilö- ja yritystunnukset", "en": "Identity codes"},
    "contact": {"fi": "Yhteystiedot", "en": "Contact details"},
    "location": {"fi": "Käyttöpaikan sijainti", "en": "Location of the usage site"},
    "quasi_identifier": {"fi": "Taustatiedot", "en": "Background data"},
    "usage": {"fi": "Energiankulutus", "en": "Energy consumption"},
    "financial": {"fi": "Sopimus- ja maksutiedot", "en": "Contract and payment data"},
    "profile": {"fi": "Profilointi", "en": "Profile"},
}

#: Field of the views to what it is called; technical fields are not told one by one.
FIELD_WORDS = {
    "metering_point_id": {"fi": "mittauspisteen tunnus", "en": "metering point"},
    "site_id": {"fi": "käyttöpaikan tunnus", "en": "usage site"},
    "customer_id": {"fi": "asiakasnumero", "en": "customer number"},
    "contract_id": {"fi": "sopimusnumero", "en": "contract number"},
    "name": {"fi": "nimi", "en": "name"},
    "information_restriction": {"fi": "turvakielto", "en": "non-disclosure for personal safety"},
    "deceased_on": {"fi": "kuolinpäivä", "en": "date of death"},
    "file_name": {"fi": "vastaanotetun tiedoston nimi", "en": "name of a file that was received"},
    "identity_code": {"fi": "henkilötunnus", "en": "personal identity code"},
    "business_id": {"fi": "Y-tunnus", "en": "business id"},
    "phone": {"fi": "puhelinnumero", "en": "telephone number"},
    "email": {"fi": "sähköpostiosoite", "en": "e-mail address"},
    "postal_address": {"fi": "postiosoite", "en": "postal address"},
    "site_address": {"fi": "käyttöpaikan osoite", "en": "address of the usage site"},
    "postal_code": {"fi": "postinumero", "en": "postal code"},
    "municipality": {"fi": "kunta", "en": "municipality"},
    "grid_area": {"fi": "verkkoalue", "en": "grid area"},
    "kind": {"fi": "henkilö vai yritys", "en": "person or company"},
    "language": {"fi": "asiointikieli", "en": "language of service"},
    "building_type": {"fi": "rakennustyyppi", "en": "building type"},
    "heating": {"fi": "lämmitystapa", "en": "heating"},
    "fuse_a": {"fi": "pääsulakkeen koko", "en": "size of the main fuse"},
    "energy": {"fi": "energiamäärä aikaväleittäin tai vuorokausittain", "en": "energy by interval or day"},
    "energy_before": {"fi": "vuorokauden energia ennen korjausta", "en": "energy of a day before a correction"},
    "energy_after": {"fi": "vuorokauden energia korjauksen jälkeen", "en": "energy of a day after a correction"},
    "peak_kw": {"fi": "huipputeho", "en": "peak demand"},
    "base_kw": {"fi": "pohjateho", "en": "base load"},
    "night_share": {"fi": "yökäytön osuus", "en": "share of night use"},
    "load_factor": {"fi": "kuormituskerroin", "en": "load factor"},
    "weekend_ratio": {"fi": "viikonlopun kulutuksen suhde arkeen", "en": "weekend use over use on working days"},
    "utilisation_hours": {"fi": "huipun käyttöaika", "en": "utilisation hours"},
    "midday_ratio": {
        "fi": "keskipäivän kulutuksen suhde aamuun ja iltaan",
        "en": "midday use over morning and evening",
    },
    "mean": {"fi": "keskimääräinen energia käyttöpaikkaa kohti", "en": "mean energy of a site"},
    "tariff": {"fi": "tariffi", "en": "tariff"},
    "invoices": {"fi": "laskujen määrä", "en": "number of invoices"},
    "invoiced_cents": {"fi": "laskutettu summa", "en": "sum of invoices"},
    "payments": {"fi": "maksujen määrä", "en": "number of payments"},
    "paid_cents": {"fi": "maksettu summa", "en": "sum of payments"},
    "open_cents": {"fi": "avoin summa", "en": "sum that is open"},
    "reminders": {"fi": "maksumuistutusten määrä", "en": "number of reminders"},
    "latest_invoice_on": {"fi": "viimeisin lasku", "en": "latest invoice"},
    "latest_payment_on": {"fi": "viimeisin maksu", "en": "latest payment"},
    "latest_reminder_on": {"fi": "viimeisin muistutus", "en": "latest reminder"},
    "payment_defaults": {"fi": "maksuhäiriömerkinnät", "en": "payment defaults"},
    "latest_default_on": {"fi": "viimeisin maksuhäiriö", "en": "latest payment default"},
    "interests": {"fi": "kiinnostuksen kohteet", "en": "interests"},
    "preferred_channel": {"fi": "toivottu yhteydenottotapa", "en": "preferred channel"},
    "target_group": {"fi": "kohderyhmä", "en": "target group"},
    "reason": {"fi": "kohderyhmän peruste", "en": "reason for the target group"},
}

#: Feature of target groups (``schemas.features``) to what it is called.
FEATURE_WORDS = {
    "heating": {"fi": "lämmitystapa", "en": "heating"},
    "building_type": {"fi": "rakennustyyppi", "en": "building type"},
    "fuse_a": {"fi": "pääsulakkeen koko", "en": "size of the main fuse"},
    "tariff": {"fi": "tariffi", "en": "tariff"},
    "interest": {"fi": "kampanjassa ilmoitettu kiinnostus", "en": "interest shown at a campaign"},
    "preferred_channel": {"fi": "toivottu yhteydenottotapa", "en": "preferred channel"},
    "reminders": {"fi": "maksumuistutukset", "en": "reminders"},
    **{
        name: FIELD_WORDS[name]
        for name in (
            *("peak_kw", "base_kw", "load_factor", "utilisation_hours"),
            *("night_share", "weekend_ratio", "midday_ratio"),
        )
    },
    "winter_ratio": {"fi": "talven kulutuksen suhde kesään", "en": "winter use over summer use"},
    "solar_sign": {"fi": "merkki aurinkosähköstä", "en": "sign of solar power"},
}

#: Legal basis to its name.
BASIS_WORDS = {
    "consent": {"fi": "suostumus", "en": "consent"},
    "contract": {"fi": "sopimus", "en": "contract"},
    "legal_obligation": {"fi": "lakisääteinen velvoite", "en": "legal obligation"},
    "vital_interests": {"fi": "elintärkeä etu", "en": "vital interests"},
    "public_task": {"fi": "yleistä etua koskeva tehtävä", "en": "public task"},
    "legitimate_interests": {"fi": "oikeutettu etu", "en": "legitimate interests"},
}

#: Kind of recipient to its name.
KIND_WORDS = {
    "partner": {"fi": "yhteistyökumppani", "en": "partner"},
    "subsidiary": {"fi": "tytäryhtiö", "en": "subsidiary"},
    "service_provider": {"fi": "palveluntuottaja", "en": "service provider"},
    "subcontractor": {"fi": "alihankkija", "en": "subcontractor"},
    "authority": {"fi": "viranomainen", "en": "authority"},
}
