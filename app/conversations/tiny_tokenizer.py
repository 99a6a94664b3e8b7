"""The tokenizer of the built-in tiny model: trained on the spot, in a fraction of a second, on text made here.

Byte-level BPE with the special tokens of Qwen3-VL and a chat template of our own that writes what Qwen3-VL's writes.
The same bytes come out each time.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

NUM_TOKENS = 3000
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Where words end: a contraction, letters with one sign before them, up to three digits, signs, line breaks, spaces.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = """\
{%- set kinds = {"image": "image", "image_url": "image", "video": "video"} %}
{%- macro parts(content, with_media) %}
    {%- if content is string %}
        {{- content }}
    {%- else %}
        {%- for part in content %}
            {%- set kind = kinds.get(part.type, "text") if with_media else "text" %}
            {%- if kind != "text" %}
                {{- "<|vision_start|><|" ~ kind ~ "_pad|><|vision_end|>" }}
            {%- elif "text" in part %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- macro call(wanted) %}
    {{- '<tool_call>\\n{"name": "' ~ wanted.name ~ '", "arguments": ' }}
    {{- wanted.arguments if wanted.arguments is string else wanted.arguments | tojson }}
    {{- "}\\n</tool_call>" }}
{%- endmacro %}
{%- if tools %}
    {{- "<|im_start|>system\\n" }}
    {%- if messages[0].role == "system" %}
        {{- parts(messages[0].content, false) ~ "\\n\\n" }}
    {%- endif %}
    {{- "# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with " }}
    {{- "function signatures within <tools></tools> XML tags:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" ~ (tool | tojson) }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within " }}
    {{- "<tool_call></tool_call> XML tags:\\n<tool_call>\\n" }}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "tool" %}
        {%- if loop.first or loop.previtem.role != "tool" %}
            {{- "<|im_start|>user" }}
        {%- endif %}
        {{- "\\n<tool_response>\\n" ~ parts(message.content, true) ~ "\\n</tool_response>" }}
        {%- if loop.last or loop.nextitem.role != "tool" %}
            {{- "<|im_end|>\\n" }}
        {%- endif %}
    {%- elif message.role in ["user", "assistant"] or (message.role == "system" and loop.first and not tools) %}
        {{- "<|im_start|>" ~ message.role ~ "\\n" ~ parts(message.content, message.role == "user") }}
        {%- if message.role == "assistant" %}
            {%- for wanted in message.tool_calls or [] %}
                {{- "\\n" if message.content or not loop.first }}
                {{- call(wanted.function or wanted) }}
            {%- endfor %}
        {%- endif %}
        {{- "<|im_end|>\\n" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" }}
{%- endif %}
"""

WORDS = """
a able about above accept account across act action active actual add address after again against age agent agree
air all allow almost alone along already also although always amber among amount and animal another answer any
anything apart appear apple apply april area argument arm around arrive art article as ask assistant at attempt
august author available average away baby back bad balance bank base basic be bear beautiful because become before
begin behind believe below best better between big bird bit black blue board boat body book both bottom box boy
branch bread break bridge bright bring brisk brother brown build building business busy but buy by call calm can
capital car card care careful carry case cat catch cause cell center central century certain chain chair chance
change character charge check child choice choose church circle circuit citizen city claim class clause clean clear
client clock close cloud coast code coin cold collect color colour column come common company compare complete
complex compose computer condition connect consider contain content continent continue contract control copy corner
correct cost could count country course court cover create credit cross current customer cut daily dark data date
daughter day dead deal december decide deep default define definition degree deliver deposit describe desert design
detail determine develop device difference different difficult direct discover distance divide do doctor document
does dog dollar door double down draw dream drive drop dry due during each ear early earth east easy eat edge effect
egg eight either electric element eleven else email empty end energy engine english enough enter entry equal error
even evening event ever every everything exact example except exist expect explain extra eye face fact fall false
family famous far farm fast father february feel few field fifth fifty figure file fill filter final find fine
finish fire first fish five flag floor flow flower fly follow food foot for force foreign forest form found four
fourth free french fresh friday friend from front fruit full function future game garden gas gather general get gift
girl give given glass go gold good government grass gray great green ground group grow guess guide half hand happen
happy harbor hard has have he head health hear heart heavy height hello help her here high hill him his history hold
home honest hope horse hot hour house how however human hundred ice id idea identifier if image important in include
increase index inside instead integer interest into inventory invoice is island item its january job join journey
july june just keep kettle key kind king know known label lake land language lantern large largest last late later
latest law lead leaf learn least leave left legal leg length less let letter level library life light like limit
line list listen little live local long look lose lot love low lower lunar machine main major make man manner many
map march mark market master match material maximum may me mean meaning measure medium meadow meet member memory
message metal method middle might mile milk million mind minimum minute miss mode model moment monday money month
moon more morning most mother motion mountain mouth move much multiple music must my name narrow nation natural
nature near necessary need network never new news next night nine no none noon nor normal north note nothing notice
november now null number object ocean october of off offer office often oil old on once one only open operation
opinion option or orange orchard order original other our out outside over own page paid pair paper parent part
party pass past path pattern pay payment payout peace people per perfect perhaps period person phone phrase picture
piece place plain plan planet plant play please point poor popular position possible pound power practice prepare
present president press pretty price private probably problem process produce product program project promise prompt
proper provide public pull purple purpose put puzzle quality quarter queen question quick quiet quite quote radio
rain raise range rapid rate rather reach read ready real reason receive recent recipe record recover red reduce
refund region relate relation remain remember repeat reply report request require rest result return review right
ring rise river road rock role room root round row rule run safe sale salt same sample sand satisfy saturday save
say scale school science score sea search season second section see seem select self sell send sense sentence
september series serve service set seven several shade shape share she sheet ship short should show side sign silver
similar simple since sing single sister sit six size skill sky sleep slot slow small smallest snow so soft soil solid
solution some someone something sometimes son song soon sort sound source south space speak special specific speed
spell spend sport spring square stand standard star start state station status stay steel step still stone stop store
storm story straight strange stream street string strong student study subject such sudden sugar suggest sum summer
summit sun sunday supply support sure surface system syllable table tag take talk tall target task teach teacher team
tell ten term test text than thank that the their them then there these they thick thin thing think third this those
though thought thousand three through thursday tile time title to today together tomorrow too tool top topic total
touch toward town trade train transfer travel tree triangle trip trouble true try tuesday turn twelve twenty two type
under understand unit until up upon upper use useful user usual valid valley value various very view village visit
vivid voice void wait walk wall want war warm was watch water wave way we weak weather wednesday week weight welcome
well were west what wheel when where whether which while white who whole whose why wide wife will willow wind window
wine winter wish with within without woman wonder wood word work world worth would write writing wrong year yellow
yes yesterday yet you young your zero
""".split()

PLACES = """
Amsterdam Athens Austin Bergen Berlin Boston Cairo Chicago Delhi Dublin Geneva Helsinki Istanbul Kraków Kyoto Lagos Lima
Lisbon London Madrid Málaga Milan Montréal Moscow Munich Nairobi Naples Osaka Oslo Paris Prague Pune Québec Quito Rome
Santiago São Paulo Seoul Stockholm Sydney Tokyo Toronto Tromsø Vienna Warsaw Zürich Canada Chile China Egypt France
Germany India Italy Japan Kenya Mexico Norway Peru Spain
""".split()

ENDINGS = ("", "", "", "", "s", "ed", "ing", "er", "ly")
PHRASES = (
    "You are a helpful assistant.",
    "Answer with the result alone.",
    "You are given one JSON record a line.",
    "Return your answer as JSON with the keys",
    "Group the records by",
    "sorted by amount, largest first.",
    "How many records are there?",
    "What is the capital of",
    "Which of them is the",
)


PATCH, MERGE = 16, 2
# Small pictures: 1 to 64 visual tokens each.
IMAGE_SETTINGS = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "patch_size": PATCH,
    "temporal_patch_size": 2,
    "merge_size": MERGE,
    "size": {"shortest_edge": (2 * PATCH) ** 2, "longest_edge": 64 * (2 * PATCH) ** 2},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def write_tiny_tokenizer(model_dir: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, chat_template.jinja and preprocessor_config.json into the folder."""
    model_dir.mkdir(parents=True, exist_ok=True)
    build_tokenizer().save(str(model_dir / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "clean_up_tokenization_spaces": False,
        "model_max_length": 32768,
    }
    (model_dir / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (model_dir / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    images = json.dumps(IMAGE_SETTINGS, indent=2) + "\n"
    (model_dir / "preprocessor_config.json").write_text(images, encoding="utf-8")


def build_tokenizer() -> Tokenizer:
    """The tokenizer in memory; the special tokens have the last ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_TOKENS - len(SPECIAL_TOKENS),
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(list(_corpus()), trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    return tokenizer


def _corpus() -> Iterator[str]:
    rng = random.Random(20)
    for word in (*WORDS, *PLACES):
        yield f" {word}" * 9 + f" {word}{rng.choice(ENDINGS)} {word.capitalize()}"
    for _ in range(1200):
        yield _sentence(rng)
    for _ in range(1500):
        yield json.dumps(_record(rng), ensure_ascii=False, indent=rng.choice([None, None, None, 2]))
    for number in range(100):
        yield f" {number} {number:02}" * 4


def _sentence(rng: random.Random) -> str:
    words = [rng.choice(WORDS) + rng.choice(ENDINGS) for _ in range(rng.randrange(4, 12))]
    words.insert(rng.randrange(len(words)), rng.choice(PLACES))
    end = rng.choice([".", "?", ",", ":", "!", ".\n", "\n\n"])
    return f"{' '.join(words).capitalize()}{end} {rng.choice(PHRASES)} '{rng.choice(WORDS)}' {rng.choice(PLACES)}"


def _record(rng: random.Random) -> dict[str, object]:
    """An object as chat data holds them: ids, names, dates, amounts, lists, nested objects."""
    values: tuple[object, ...] = (
        rng.randrange(10_000),
        f"{rng.choice(WORDS)} {rng.choice(WORDS)}",
        rng.choice(PLACES),
        f"20{rng.randrange(15, 35)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
        round(rng.uniform(0, 1000), 2),
        rng.choice([True, False, None]),
        [rng.choice(WORDS) for _ in range(rng.randrange(4))],
        {rng.choice(WORDS): rng.randrange(100), "mean": round(rng.random() * 100, 2)},
    )
    keys = ("id", "name", "city", "day", "amount", rng.choice(WORDS), rng.choice(WORDS), rng.choice(WORDS))
    return dict(zip(keys, values, strict=True))
