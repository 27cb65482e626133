#!/usr/bin/env python3
"""Makes tests/golden/tokenizers/: texts and the tokens that Hugging Face's `tokenizers` gives them.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.23.3
    /tmp/venv/bin/python scripts/golden/tokenizer_golden.py ../shared/data

texts.gz holds one JSON string a line; NAME.ids.gz the tokens of the first texts, a line each. Two
tokenizers are the data's (bert-base-uncased, gpt2), three small ones are trained here and written
beside. Texts avoid special tokens (fedctl reads them as text) and characters newer than Unicode 15.
"""
import gzip, json, pathlib, random, sys, unicodedata
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.implementations import BertWordPieceTokenizer, ByteLevelBPETokenizer

DATA = pathlib.Path(sys.argv[1])
OUT = pathlib.Path(__file__).parents[2] / "tests/golden/tokenizers"
SMALL_COUNT = 500
RANDOM = random.Random(20240501)

FIXED = [
    "", " ", "  ", "\n", "\t", "\r\n", "a", " a", "a ", "  a  b  ", "Hello, world!", "It's", "it's we're I'll you'd I've I'm don't", "'s 'S 'T 'Re ''s '",
    "can''t 'tis o'clock rock'n'roll 'LL 'll", "1234567890", "3.14159 1,000,000 1e-9 0x1F", "²³¼½ Ⅷ ٣٤٥ १२३ 一二三", "C++ && || <=> != :: -> `x` ~y^z {a} [b] (c) $5 %d #1 @me _under_ a|b \\n",
    "naïve café Ångström élan Zürich façade", "nai\u0308ve cafe\u0301 A\u030angstro\u0308m", "e\u0301\u0323\u0302 o\u0328\u0304 \u0301x", "İstanbul ısı I i İİ", "ΣΑΣ ΟΔΟΣ σς Σ", "ẞ ß STRASSE ﬁ ﬂ ﬃ ǅ ǆ",
    "Привет, мир! Ёлка й", "Γειά σου Κόσμε", "שלום עולם", "שָׁלוֹם", "مرحبا بالعالم", "مَرْحَبًا", "नमस्ते दुनिया", "สวัสดีชาวโลก", "வணக்கம்", "გამარჯობა", "Բարեւ", "안녕하세요 세계", "\u1112\u1161\u11ab\u1100\u1173\u11af", "こんにちは世界", "カタカナ がぎぐ ｶﾞｷﾞ",
    "你好，世界！", "中文English混合text", "豈更車 㐀㐁 𠀀𠀁 𫠠 𫤠", "🙂", "🙂🙃 😀!", "👨‍👩‍👧‍👦 family", "👍🏽 🇩🇪🇫🇷 ❤️ 1️⃣", "a\u200db\u200cc\u200bd\ufeffe", "\u202eabc\u202c \u2066x\u2069", "soft\u00adhyphen non\u00a0breaking",
    "\u2000\u2001\u2002\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000x", "a\x00b\x01c\x7fd\x85e\x1ff", "\ufffd\ufffdx", "\ue000private", "…—–‘’“”„«»¿¡§¶†‡•‰", "€£¥₹₿ ©®™ ±×÷ ≤≥≠ ∞∑∫√ →←↔", "http://example.com/a?b=c&d=%20#e", "user.name+tag@example.co.uk",
    "\n\n\n   def f(x):\n\treturn x ** 2  # square\n", "a\n b\n  c\n   d", "trailing   ", "x \t\n y", " \n", "\n ", "\u3000 \u3000a", "x\u00a0 y", "A" * 100, "A" * 101, "b" * 99 + "é", "e\u0301" * 100, "é" * 101, "ab" * 2000, "🙂" * 300, "字" * 200, "." * 500, " " * 300, " " * 300 + "a", "\n" * 77 + " x", "0" * 333, "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "ᠠ\u1885\u1886 ᜴ \u1734 ꦽ \U000111c9 \u166d ᙮", "\u0488\u20dd enclosing a\u20dd", "\u302e\u3099 \U0001d165\U0001d16d", "Zalgo Z\u0351\u036b\u0343a\u0363\u0349l\u0308g\u033co", "\u0340\u0341\u0344\u0374\u037e\u0387 \u212a\u212b\u2126", "[UNK", "<unk", "##ing ## #", "▁ ▁▁a a▁b", "<0x41> <0x", "Ġ Ċ Ġa", "‿⁀ _ ﹏", "〜〰・ー々〆", "ʻokina ʼapostrophe", "ⓐⒶ ⅳ ½ ⁵ ₅", "ａｂｃ ＡＢＣ １２３ ！？",
]

SCRIPTS = [(0x20, 0x7f), (0x20, 0x7f), (0x20, 0x7f), (0xa0, 0x180), (0x180, 0x300), (0x300, 0x370), (0x370, 0x400), (0x400, 0x530), (0x590, 0x600), (0x600, 0x700), (0x900, 0xe00), (0xe00, 0x1000), (0x1000, 0x1800), (0x1e00, 0x2000), (0x2000, 0x2070), (0x2070, 0x2c00), (0x3000, 0x3400), (0x4e00, 0x5000), (0xac00, 0xad00), (0xf900, 0xfb50), (0xfe00, 0x10000), (0x10000, 0x11200), (0x11200, 0x1f000), (0x1f300, 0x1f700), (0x1f900, 0x1fa00), (0x20000, 0x20040), (0, 0x20)]


def usable(c):
    return not 0xd800 <= c < 0xe000 and (unicodedata.category(chr(c)) != "Cn")


def random_text():
    out = []
    for _ in range(RANDOM.randint(1, 6)):
        low, high = RANDOM.choice(SCRIPTS)
        word = [chr(c) for c in (RANDOM.randrange(low, high) for _ in range(RANDOM.randint(1, 9))) if usable(c)]
        out.append("".join(word))
        out.append(RANDOM.choice([" ", " ", " ", "", "  ", "\n", "'s ", ". ", "\u0301", "\u200d", ", ", "\t", "'ll", "12"]))
    return "".join(out)


def corpus():
    words = (DATA / "tiny-shakespeare/input.txt").read_text().split("\n\n")
    return [part for part in words if part]


def texts():
    passages = corpus()
    reviews = [line.split("\t")[0] for line in (DATA / "sst2/dev.tsv").read_text().splitlines()[1:]]
    wiki = [line for line in (DATA / "wikitext-2/valid.txt").read_text().splitlines() if len(line) > 20]
    wiki = [line.replace("<unk>", "unknown") for line in wiki]
    found = list(FIXED)
    for _ in range(1130):
        found.append(random_text())
        if RANDOM.random() < 0.45:
            found.append(RANDOM.choice(passages)[:RANDOM.randint(5, 160)])
        if RANDOM.random() < 0.2:
            found.append(RANDOM.choice(reviews))
        if RANDOM.random() < 0.2:
            found.append(RANDOM.choice(wiki)[:200])
    return found


def write(name, data):
    with open(OUT / name, "wb") as file:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=9, mtime=0) as packed:
            packed.write(data.encode())


def write_ids(name, tokenizer, chosen):
    rows = (tokenizer.encode(text, add_special_tokens=False).ids for text in chosen)
    write(name + ".ids.gz", "".join(" ".join(map(str, row)) + "\n" for row in rows))


def save(name, tokenizer, older=False):
    tree = json.loads(tokenizer.to_str())
    if older:  # a merge was one text until 0.20
        tree["model"]["merges"] = [" ".join(pair) for pair in tree["model"]["merges"]]
    json_text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
    (OUT / name).write_text(json_text + "\n")


def train_wordpiece(lines):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")])
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def train_byte_bpe(lines):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def train_fallback_bpe(lines):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    # Trained on whole lines: tokens that cross a space tell a split at spaces from none.
    words = ["▁" + line.replace(" ", "▁")[:100] for part in lines for line in part.split("\n")]
    plain = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    plain.train_from_iterator(words, trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False))
    trained = json.loads(plain.to_str())
    trained["added_tokens"] = [token for token in trained["added_tokens"] if token["id"] < 3]
    trained["normalizer"] = json.loads(tokenizer.to_str())["normalizer"]
    tokenizer = Tokenizer.from_str(json.dumps(trained))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    chosen = texts()
    assert len(chosen) >= 2000
    write("texts.gz", "".join(json.dumps(text) + "\n" for text in chosen))
    tokenizers_of_data = DATA / "tokenizers"
    bert = BertWordPieceTokenizer(str(tokenizers_of_data / "bert-base-uncased/vocab.txt"))
    write_ids("bert-base-uncased", bert, chosen)
    gpt2 = ByteLevelBPETokenizer(str(tokenizers_of_data / "gpt2/vocab.json"), str(tokenizers_of_data / "gpt2/merges.txt"))
    write_ids("gpt2", gpt2, chosen)
    lines, few = corpus(), chosen[:SMALL_COUNT]
    for name, train in (("wordpiece", train_wordpiece), ("byte_bpe", train_byte_bpe), ("fallback_bpe", train_fallback_bpe)):
        tokenizer = train(lines)
        save(name + ".json", tokenizer, older=name == "fallback_bpe")
        write_ids(name, tokenizer, few)
        if name == "fallback_bpe":
            tokenizer.normalizer = None
            for split in (True, False):
                tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=split)
                write_ids("metaspace_" + ("split" if split else "whole"), tokenizer, few if split else few[:150])


main()
