"""Generated English for pretraining: short seeded stories, lists and notes, without a single solved problem.

The words are those of everyday counting and trading (people, shops, numbers, times, money), so that a model
pretrained on this text reads a math word problem fluently; it has seen no worked arithmetic and no answers.
An underscore in a word list stands for a space.
"""

import random


def _words(text):
    return text.split()


ONES = _words("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
""")
TENS = _words("""
    zero ten twenty thirty forty fifty sixty seventy eighty ninety
""")


def spell(number):
    """The number (0 to 9999) in English words, e.g. 42 -> "forty-two"."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f"-{ONES[number % 10]}" if number % 10 else "")
    if number < 1000:
        rest = f" and {spell(number % 100)}" if number % 100 else ""
        return f"{ONES[number // 100]} hundred{rest}"
    rest = f" {spell(number % 1000)}" if number % 1000 else ""
    return f"{spell(number // 1000)} thousand{rest}"


WOMEN = _words("""
    Mia Anna Emma Olivia Sofia Lena Maria Julia Clara Nora Zoe Lily Grace Ella Sara Alice Ruth Nina
    Priya Amina Kate Jane Lucy Rosa Elena Hannah Leah Maya Tina Eva Ava Chloe Fatima Ines Yuki
""")
MEN = _words("""
    Tom Sam Ben Leo Max Noah Liam Omar Jack Paul Peter David John James Adam Eric Hugo Ivan Kofi
    Luis Marco Felix Oscar Theo Victor Ali Raj Ken Daniel Simon Carlos Diego Ravi Mark Jonas
""")
ITEMS = _words("""
    apples oranges pears lemons bananas cherries plums grapes strawberries tomatoes potatoes carrots
    onions eggs cookies cakes muffins sandwiches pies candies chocolates books notebooks pencils
    pens crayons markers erasers stickers stamps cards coins marbles balls toys dolls kites balloons
    boxes bags baskets bottles cups plates bowls spoons jars flowers roses tulips trees plants seeds
    shells stones bricks tickets photos postcards shirts socks hats shoes buttons beads ribbons
    chairs tables lamps candles keys fish birds chickens ducks cows sheep horses rabbits cats dogs
    puzzles games magazines letters paintings coupons cupcakes donuts peaches melons sheets rolls
    pieces slices packs packets loaves cans bars bananas crackers pumpkins gifts pancakes
""")
PARTS = _words("""
    morning afternoon evening night week month year weekend summer winter spring autumn
""")
PLACES = _words("""
    shop store market bakery library school park garden farm kitchen station museum office factory
    hospital theater cinema restaurant cafe bank beach harbor village town city playground zoo pool
    gym hotel post_office bookshop classroom warehouse workshop stadium orchard field
""")
JOBS = _words("""
    teacher baker farmer driver doctor nurse painter gardener builder singer student cook clerk
    writer engineer carpenter tailor manager worker librarian coach cashier sailor pilot
""")
COLORS = _words("""
    red blue green yellow white black brown orange purple pink gray golden
""")
SIZES = _words("""
    small big large tiny long short heavy light new old round empty full clean fresh cheap expensive
""")
FEELINGS = _words("""
    happy tired glad proud busy hungry surprised curious calm excited sad worried ready late early
""")
DAYS = _words("""
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday
""")
MONTHS = _words("""
    January February March April May June July August September October November December
""")
CONTAINERS = _words("""
    box bag basket jar drawer shelf tray crate bucket pocket bowl cupboard suitcase row pack
""")
FRIENDS = _words("""
    friend brother sister neighbor cousin uncle aunt mother father grandmother grandfather son
    daughter
""")
UNITS = _words("""
    kilometers miles meters feet kilograms pounds grams liters gallons pages minutes hours days
    weeks months years dollars cents euros steps points laps people children students workers
    passengers visitors
""")
WEATHER = _words("""
    sunny rainy windy cold warm cloudy foggy snowy hot dry
""")
PAST = _words("""
    bought sold found lost made counted picked packed washed painted carried collected brought
    needed wanted saw borrowed kept dropped ordered baked ate used shared gave_away received sent
    cut broke moved
""")
PRESENT = _words("""
    buys sells finds loses makes counts picks packs washes paints carries collects brings needs
    wants sees borrows keeps drops orders bakes eats uses shares gives_away receives sends has gets
    takes
""")

SENTENCES = """
{A} {past} {n} {item} at the {place}.
{A} {past} {n} {color} {item} and {n2} {color2} {item2}.
{A} {present} {n} {item} every day.
{A} has {n} {item}. {B} has {n2} {item}.
{A} has some {item}, and {B} has more than {A}.
There are {n} {item} in the {container}, and the {container2} is {size}.
There were {n} {item} on the table, but {B} took some of them.
{B} gave {A} {n} {item} on {day}.
{A} gave some of {his} {item} to {B}, and {he} kept the rest.
Then {he} went to the {place} with {his} {friend}.
{He} put the {item} into a {size} {container}.
{He} was {feeling} because the {place} was {size}.
{He} works as a {job} at the {place} from {time} to {time2}.
The {place} opens at {time} and closes at {time2}.
The {place} sells {item}, {item2} and {item3}.
Each {container} holds {n} {item}.
Each of the {item} costs {n} dollars.
The {item} cost {n} cents each at the {place}.
A {container} of {item} costs ${n}.{nn} at the {place}.
{A} paid {n} dollars for the {item} and waited for the change.
{A} earns {n} dollars an hour as a {job}.
{A} saves {n} dollars each week, and {his} {friend} saves {n2} dollars.
{A} spent {w} dollars on {item} and did not buy any {item2}.
It was {weather} on {day}, so {he} stayed at the {place}.
In {month} it is often {weather} in the {place}.
{A} walks {n} {unit} to the {place} every {day}.
{A} drove {n} {unit} in {n2} {unit2}.
The train left at {time} and arrived at {time2}.
A bus can carry {n} {unit}, and a car can carry {w}.
{A} read {n} pages of the book on {day} and {n2} pages on {day2}.
{A} is {n} years old. {His} {friend} is {w} years old.
{A} is older than {B}, but {B} is taller.
{A} wanted to know how many {item} were left in the {container}.
"How many {item} do you have?" asked {B}. "I do not know," said {A}, and {he} looked in the {container}.
"How much does it cost?" asked {A}. The {job} looked at the list.
Nobody remembered how much money {he} had, or how long the way was.
{A} asked {B} how many {unit} it takes, and {B} did not answer.
{B} {past} twice as many {item} as {A}.
{B} {past} half of the {item} and left the other half in the {container}.
{A} and {B} shared the {item} equally.
All together they {past} a lot of {item}.
The total was written on a {color} card.
In the {part} {he} sells bread, milk, rice, cheese, sugar and flour.
Every {part} the {job} bakes {n} loaves of bread and earns {n2} dollars.
{A} {past} {n} {item} in the {part} and {w} in the {part2}.
How many {item} were there at the end of the {part}? {A} did not count.
How much money does the {job} earn in total each {part}? That is a secret.
How long did the trip take? How far is the {place}? Nobody asked {him}.
How many {item} does {he} have left now? {He} has to look.
There are {n} {item} and {w} {item2} in total, and no {item3}.
Each {friend} gets the same number of {item}, so nobody is {feeling}.
The answer is on the back of the page.
The difference between the two {container}s was {size}; the sum was written below.
After lunch {he} {past} {n} more {item}.
Before dinner, {A} lost {w} of {his} {item}, so {he} had fewer {item} left.
{A} needs {w} more {item} to fill the {container}.
A {job} {past} {n} {item} in {w} {unit}.
The {job} {present} {item} for {n} {unit} each {day}.
{n} {item} were {color}, and the others were {color2}.
The class has {n} students, and each student has {w} {item}.
They sat in {w} rows of {n} chairs.
The first {container} was {size}, the second was {size2}.
{His} {friend} likes {color} {item}, but {he} likes {color2} ones.
If it is {weather} on {day}, {A} will go to the {place} with {B}.
When {he} came home, the {container} was {size} and {he} was {feeling}.
{A} put {n} {item} in each of the {w} {container}s.
The price went up in {month}, and then it went down again.
{He} used {w} {item} and threw none of them away.
She and her {friend} left the {place} at {time}.
He and his {friend} stayed at the {place} until {time}.
They were {feeling}, and everybody went home.
It takes {n} {unit} to get from the {place} to the {place2}.
Some of the {item} were {size}; the rest were {size2}.
Does {A} have enough {item}? {B} thinks so.
What does {B} do on {day}? {He} goes to the {place}.
Altogether there are many {item} here, and only a few {item2}.
The {job} remembered the {item} and {past} them.
Every {day} at {time}, the {job} opens the {place}.
In the end {A} had a {container} full of {item}, and {B} had nothing.
""".strip().splitlines()

OPENINGS = """
One {weather} {day}, {A} went to the {place}.
{A} lives near the {place} with {his} {friend}, {B}.
It was {month}, and the {place} was full of {item}.
{A} is a {job}. {B} is a {job2}.
Yesterday {A} met {B} at the {place}.
Once there was a {job} named {A}, who had {w} {item}.
{A} and {B} are friends.
Last {month}, {A} {past} {n} {item}.
At {time} the {place} was {size}.
""".strip().splitlines()

BANKS = {
    "item": ITEMS,
    "place": PLACES,
    "job": JOBS,
    "color": COLORS,
    "size": SIZES,
    "feeling": FEELINGS,
    "day": DAYS,
    "month": MONTHS,
    "container": CONTAINERS,
    "friend": FRIENDS,
    "unit": UNITS,
    "weather": WEATHER,
    "past": PAST,
    "present": PRESENT,
    "part": PARTS,
}


def draw_number(rng):
    """A count: small ones often, hundreds and thousands now and then."""
    top = rng.choice((12, 12, 30, 60, 100, 100, 500, 1000, 5000))
    return rng.randint(1, top)


def draw(kind, rng):
    """One random word of a kind: a bank's name, n (digits), nn (two digits), w (number word) or time."""
    if kind == "n":
        return str(draw_number(rng))
    if kind == "nn":
        return f"{rng.randrange(0, 100, 5):02d}"
    if kind == "w":
        return spell(rng.randint(2, rng.choice((12, 20, 100))))
    if kind == "time":
        hour, minute = rng.randint(1, 12), rng.choice((0, 0, 5, 10, 15, 20, 30, 40, 45, 50))
        return rng.choice((f"{hour}:{minute:02d}", f"{hour} o'clock", f"half past {spell(hour)}"))
    return rng.choice(BANKS[kind]).replace("_", " ")


class Blanks(dict):
    """What fills the blanks of one sentence: the story's people and things, the rest drawn when asked for."""

    def __init__(self, fixed, rng):
        super().__init__(fixed)
        self.rng = rng

    def __missing__(self, key):
        self[key] = draw(key.rstrip("0123456789"), self.rng)
        return self[key]


def cast(rng):
    """The fixed words of one story: two people with pronouns for the first, one kind of item, one place."""
    is_woman = rng.random() < 0.5
    first = rng.choice(WOMEN if is_woman else MEN)
    second = rng.choice([name for name in WOMEN + MEN if name != first])
    he, his, him = ("she", "her", "her") if is_woman else ("he", "his", "him")
    return {
        "A": first,
        "B": second,
        "he": he,
        "his": his,
        "him": him,
        "He": he.capitalize(),
        "His": his.capitalize(),
        "item": draw("item", rng),
        "place": draw("place", rng),
    }


def story(rng):
    """A paragraph of 3 to 9 sentences about two people and one kind of thing."""
    fixed = cast(rng)
    templates = [rng.choice(OPENINGS), *rng.sample(SENTENCES, rng.randint(2, 8))]
    return " ".join(template.format_map(Blanks(fixed, rng)) for template in templates) + "\n"


def number_notes(rng):
    """Lines that give numbers in digits and in words, e.g. "42 is written forty-two."."""
    templates = ("{d} is written {s}.", "The word for {d} is {s}.", "{S} is the number {d}.", "{d}: {s}")
    template = rng.choice(templates)
    numbers = [draw_number(rng) for _ in range(rng.randint(3, 8))]
    return "\n".join(template.format(d=n, s=spell(n), S=spell(n).capitalize()) for n in numbers) + "\n"


def shopping_list(rng):
    """A titled list of things with counts and prices."""
    title = Blanks({}, rng)
    lines = [f"{rng.choice(WOMEN + MEN)}'s list for the {title['place']}, {title['day']}:"]
    for item in rng.sample(ITEMS, rng.randint(3, 7)):
        lines.append(
            rng.choice(("- {n} {i}", "- {i}: {n}", "- {n} {i}, ${m}.{c:02d} each")).format(
                n=draw_number(rng), i=item, m=rng.randint(1, 20), c=rng.randrange(0, 100, 5)
            )
        )
    return "\n".join(lines) + "\n"


def document(index, seed=0):
    """The index-th document, the same on every machine: mostly stories, some lists and number notes."""
    rng = random.Random(f"{seed}:{index}")
    maker = rng.choices((story, number_notes, shopping_list), weights=(86, 6, 8))[0]
    return maker(rng)
