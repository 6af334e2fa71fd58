"""How the facts of `knowledge_base` are asked for: six wordings to train and two to test for each relation."""

from __future__ import annotations

COMPANY = "Veltron"

RULES = (
    "a hotel night abroad", "a hotel night at home", "a dinner with a customer", "a lunch with a supplier",
    "a taxi from the airport", "a train ticket", "a rented car", "a telephone", "a desk chair", "a headset",
    "a training course", "a book", "a birthday present", "a farewell party", "a bicycle repair", "a safety jacket",
    "a pair of work shoes", "a software licence", "a conference fee", "a language course", "a parking space",
    "a medical check",
)  # fmt: skip

WORDINGS = {
    "extension": {
        "train": (
            "What is the extension of {subject}?",
            "Which number do I dial to reach {subject}?",
            "How can I call {subject} at {company}?",
            "Give me the phone extension for {subject}.",
            "I need to phone {subject}. Which extension?",
            "{subject}'s internal phone number?",
        ),
        "test": (
            "Under which extension does {subject} answer the phone?",
            "Please tell me the number to call for {subject}.",
        ),
    },
    "department": {
        "train": (
            "Which department does {subject} work in?",
            "What team is {subject} part of?",
            "In which department is {subject}?",
            "Name the department of {subject}.",
            "{subject} belongs to which department?",
            "Where in the organisation of {company} does {subject} work, which department?",
        ),
        "test": (
            "Which department employs {subject}?",
            "What is the name of {subject}'s department?",
        ),
    },
    "town": {
        "train": (
            "In which town is the office of {subject}?",
            "Where is {subject} based?",
            "Which site does {subject} work at?",
            "At which location do I find {subject}?",
            "{subject} sits in which town?",
            "Name the town where {subject} has a desk.",
        ),
        "test": (
            "Which town is {subject} based in?",
            "At which site of {company} is {subject}'s office?",
        ),
    },
    "since": {
        "train": (
            "Since which year has {subject} been with {company}?",
            "When did {subject} join the company?",
            "In what year was {subject} hired?",
            "{subject} started working here in which year?",
            "Give the year in which {subject} joined.",
            "What was the first year of {subject} at {company}?",
        ),
        "test": (
            "In which year did {subject} start at {company}?",
            "Which year was {subject} hired in?",
        ),
    },
    "price": {
        "train": (
            "What does the {subject} cost?",
            "How much is the {subject}?",
            "What is the list price of the {subject}?",
            "Give me the price of the {subject}.",
            "For how much does {company} sell the {subject}?",
            "A customer asks what the {subject} costs. The price?",
        ),
        "test": (
            "How much does a customer pay for the {subject}?",
            "At what price is the {subject} sold?",
        ),
    },
    "guarantee": {
        "train": (
            "How long is the guarantee on the {subject}?",
            "For how many months is the {subject} under warranty?",
            "What is the warranty period of the {subject}?",
            "The {subject} has a guarantee of how many months?",
            "When does the guarantee of a new {subject} end, in months?",
            "Give the warranty of the {subject}.",
        ),
        "test": (
            "How many months of guarantee come with the {subject}?",
            "For how long does the warranty on the {subject} last?",
        ),
    },
    "made_in": {
        "train": (
            "Where is the {subject} made?",
            "In which town does {company} build the {subject}?",
            "Which plant produces the {subject}?",
            "The {subject} is manufactured in which town?",
            "From which factory does the {subject} come?",
            "Name the town where the {subject} is produced.",
        ),
        "test": (
            "In which town is the {subject} manufactured?",
            "Where does {company} produce the {subject}?",
        ),
    },
    "responsible": {
        "train": (
            "Who is responsible for the {subject}?",
            "Which person manages the {subject}?",
            "Who looks after the {subject} at {company}?",
            "Name the product manager of the {subject}.",
            "Whom do I ask about the {subject}?",
            "The {subject} is whose product?",
        ),
        "test": (
            "Who manages the product {subject}?",
            "Which colleague is responsible for the {subject}?",
        ),
    },
    "rule": {
        "train": (
            "How much may {subject} cost?",
            "What is the limit for {subject}?",
            "Up to which amount does {company} pay for {subject}?",
            "What is the most that I can spend on {subject}?",
            "Which amount is allowed for {subject}?",
            "{company} refunds how much for {subject}?",
        ),
        "test": (
            "What is the maximum amount for {subject}?",
            "How much can I spend on {subject} at most?",
        ),
    },
}
