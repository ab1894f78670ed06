"""CLIP's byte-pair tokenizer, small: enough for the captions of scenes.py (lower case, ASCII).

merges.txt is CLIP's public vocabulary, one merge a line, most frequent first (see README.md for its origin).
"""
import re

START, END = 49406, 49407
LENGTH = 77
MERGES = 49152 - 256 - 2
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")


def byte_symbols():
    """The printable character that stands for each of the 256 bytes, in the vocabulary's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in symbols]
    symbols.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    return symbols


class Tokenizer:
    def __init__(self, path):
        with open(path, encoding="utf8") as stream:
            lines = stream.read().split("\n")[1 : MERGES + 1]
        merges = [tuple(line.split()) for line in lines]
        self.symbols = byte_symbols()
        letters = list(self.symbols.values())
        vocabulary = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
        vocabulary += ["<|startoftext|>", "<|endoftext|>"]
        self.ids = {token: index for index, token in enumerate(vocabulary)}
        self.rank = {pair: index for index, pair in enumerate(merges)}

    def split_word(self, word):
        """Merges the word's letters, best-ranked pair first, until no known pair is left."""
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda pair: self.rank.get(pair, float("inf")))
            if best not in self.rank:
                break
            merged, i = [], 0
            while i < len(parts):
                pair = tuple(parts[i : i + 2])
                merged.append("".join(pair) if pair == best else parts[i])
                i += 2 if pair == best else 1
            parts = merged
        return parts

    def encode(self, text):
        """LENGTH token numbers: start, the words, then end until the row is full."""
        tokens = []
        for word in WORDS.findall(" ".join(text.lower().split())):
            letters = "".join(self.symbols[byte] for byte in word.encode())
            tokens += [self.ids[part] for part in self.split_word(letters)]
        tokens = [START, *tokens[: LENGTH - 2]]
        return tokens + [END] * (LENGTH - len(tokens))
