"""Random numbers: the stream's known answers, uniform masks and secrets, the discrete Gaussian."""

import itertools
import math

import mpmath
import numpy as np
import pytest

from private_lora.crypto import sampling
from private_lora.crypto.parameters import ERROR_STD, PackedParameters
from private_lora.crypto.ring import LANES
from private_lora.crypto.rlwe import fresh_secrets, mask_tiles
from private_lora.crypto.sampling import Stream, fresh_seed, gaussian_errors, statistical_distance, ternary_secret
from private_lora.crypto.security import security_caps

SEED = bytes(range(32))
WIDTHS = [21, 26, 30, 32, 33, 38, 47, 53, 62]


def assert_counts_fit(counts, expected):
    """Chi-square within 6 standard deviations; all seeds here are fixed, so this passes always or never."""
    expected = np.broadcast_to(np.asarray(expected, float), np.shape(counts))
    assert expected.min() > 5
    chi_square, freedom = np.sum((counts - expected) ** 2 / expected), expected.size - 1
    assert abs(chi_square - freedom) < 6 * math.sqrt(2 * freedom)


def masks_of(log2_q, tiles=1, seed=SEED):
    """Byte planes of some tiles of masks in the smallest ring for such a modulus: tiles x planes x N x LANES."""
    ring_size = next(size for size, cap in security_caps("matzov").items() if log2_q <= cap)
    return mask_tiles(seed, PackedParameters(ring_size, log2_q, 0, 0, 1, 1), tiles * LANES)


def combined(planes):
    return sum(plane.astype(np.int64) << (8 * i) for i, plane in enumerate(planes)).ravel()


def test_the_stream_is_aes_256_in_counter_mode():
    # NIST SP 800-38A, F.5.5: the stream is ciphertext xor plaintext.
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    plain += "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    cipher = "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    cipher += "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    expected = bytes(a ^ b for a, b in zip(bytes.fromhex(plain), bytes.fromhex(cipher), strict=True))
    first_block = int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16)
    assert Stream(key, first_block).draw(64, np.uint8).tobytes() == expected
    assert Stream(key, first_block + 2).draw(32, np.uint8).tobytes() == expected[32:]


def test_a_stream_is_the_same_in_pieces_and_beyond_its_buffer():
    whole = Stream(SEED).draw(3 * 2**20 + 7, np.uint8)
    stream = Stream(SEED)
    pieces = np.concatenate([stream.draw(n, np.uint8) for n in (5, 2**20, 2**20 + 1, 2**20 + 1)])
    np.testing.assert_array_equal(whole, pieces)
    np.testing.assert_array_equal(whole[2**21 :], Stream(SEED, 2**21 // 16).draw(2**20 + 7, np.uint8))


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_seeds_of_another_length_are_refused(length):
    with pytest.raises(ValueError, match=f"32 bytes, not {length}"):
        Stream(bytes(length))
    with pytest.raises(ValueError, match="32 bytes"):
        masks_of(26, seed=bytes(length))


def test_fresh_seeds_are_long_and_all_different():
    seeds = {bytes(fresh_seed()) for _ in range(1000)}
    assert len(seeds) == 1000
    assert {len(seed) for seed in seeds} == {32}


@pytest.mark.parametrize("log2_q", WIDTHS)
def test_masks_are_uniform_modulo_q(log2_q):
    planes = np.concatenate(masks_of(log2_q, 8), axis=1)
    top_bits = log2_q - 8 * (len(planes) - 1)
    for plane in planes[:-1]:
        assert_counts_fit(np.bincount(plane.ravel().view(np.uint8), minlength=256), plane.size / 256)
    top = planes[-1].ravel().astype(np.int64)
    assert (top.min(), top.max()) == (-(2 ** (top_bits - 1)), 2 ** (top_bits - 1) - 1)
    assert_counts_fit(np.bincount(top + 2 ** (top_bits - 1), minlength=2**top_bits), top.size / 2**top_bits)
    residues = combined(planes) % 2**log2_q
    for modulus in (3, 5, 7, 251):
        assert_counts_fit(np.bincount(residues % modulus, minlength=modulus), residues.size / modulus)
    for shift in (0, log2_q // 2 - 5, log2_q - 10):
        assert_counts_fit(np.bincount(residues >> shift & 1023, minlength=1024), residues.size / 1024)


@pytest.mark.parametrize("log2_q", WIDTHS)
def test_masks_are_the_streams_own_bits(log2_q):
    tiles = masks_of(log2_q, 3)
    raw = Stream(SEED).draw(tiles.size, np.uint8).view(np.int8).reshape(tiles.shape)
    np.testing.assert_array_equal(tiles[:, :-1], raw[:, :-1])
    for tile, bits in zip(tiles, raw, strict=True):
        np.testing.assert_array_equal((combined(tile) - combined(bits)) % 2**log2_q, 0)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_tiles_differ_and_do_not_depend_on_who_expands_them(threads, monkeypatch):
    monkeypatch.setattr("numba.get_num_threads", lambda: 1)
    tiles = masks_of(26, 5)
    monkeypatch.setattr("numba.get_num_threads", lambda: threads)
    assert tiles.shape == (5, 4, 1024, LANES)
    for count in (1, 2, 4, 5):
        np.testing.assert_array_equal(masks_of(26, count), tiles[:count])
    # 24 of 26 bits are whole bytes; neighbours of one stream must not share any.
    for number in range(4):
        assert abs(np.mean(tiles[number][:3] == tiles[number + 1][:3]) - 1 / 256) < 0.001
    assert abs(np.mean(masks_of(26, 5, seed=bytes(32))[:, :3] == tiles[:, :3]) - 1 / 256) < 0.001


@pytest.mark.parametrize("ring_size", [1024, 2048, 4096, 8192])
def test_secrets_are_uniform_and_dense(ring_size):
    secrets = np.concatenate([fresh_secrets(bytes([i]) * 32, ring_size, 1) for i in range(64)])
    assert secrets.shape == (64, ring_size)
    assert secrets.dtype == np.int8
    assert set(np.unique(secrets)) == {-1, 0, 1}
    assert_counts_fit(np.bincount(secrets.ravel() + 1, minlength=3), secrets.size / 3)
    pairs = 3 * (secrets[:, :-1] + 1).astype(int) + secrets[:, 1:] + 1
    assert_counts_fit(np.bincount(pairs[:, ::2].ravel(), minlength=9), pairs[:, ::2].size / 9)


@pytest.mark.parametrize(("rows", "secrets"), [(1, 1), (1024, 1), (1025, 2), (4100, 5)])
def test_each_ring_of_rows_has_its_own_secret(rows, secrets):
    drawn = fresh_secrets(SEED, 1024, rows)
    assert len(drawn) == len({row.tobytes() for row in drawn}) == secrets


def test_bytes_without_a_fair_remainder_are_drawn_again():
    class Crafted:
        def __init__(self):
            self.parts = [[255, 0, 255, 1], [255, 255, 255, 255], [254, 253, 2, 3]]

        def draw(self, count, dtype):
            return np.array(self.parts.pop(0), dtype)

    np.testing.assert_array_equal(ternary_secret(Crafted(), 4), [-1, 0, 254 % 3 - 1, 253 % 3 - 1])


def gaussian_pmf(std="3.2"):
    mpmath.mp.dps = 60
    values = range(-120, 121)
    weights = [mpmath.exp(-mpmath.mpf(x * x) / (2 * mpmath.mpf(std) ** 2)) for x in values]
    return {x: w / mpmath.fsum(weights) for x, w in zip(values, weights, strict=True)}


def test_errors_follow_the_discrete_gaussian():
    errors = gaussian_errors(Stream(SEED), 4_000_000).astype(np.int64)
    pmf, count = gaussian_pmf(), len(errors)
    assert ERROR_STD == 3.2
    assert abs(errors.mean()) < 5 * ERROR_STD / math.sqrt(count)
    assert abs(errors.var() - 10.24) < 5 * 10.24 * math.sqrt(2 / count)
    core = range(-14, 15)
    observed = [np.sum(errors < -14)] + [np.sum(errors == x) for x in core] + [np.sum(errors > 14)]
    tail = float(sum(pmf[x] for x in range(15, 121)))
    assert_counts_fit(np.array(observed), count * np.array([tail, *(float(pmf[x]) for x in core), tail]))
    assert abs(np.corrcoef(errors[:-1], errors[1:])[0, 1]) < 5 / math.sqrt(count)


def spare_edges():
    """Exact edges between spare values, in units of 2^-128."""
    return [(int(high) << 64) + int(low) for high, low in zip(sampling._HIGH_EDGES, sampling._LOW_EDGES, strict=True)]


def test_the_tables_are_within_their_stated_distance_of_the_discrete_gaussian():
    slots, edges = [int(slot) for slot in sampling._SLOTS], [0, *spare_edges(), 2**128]
    mpmath.mp.dps = 60
    decided = [b - a - 1 for a, b in zip([-1, *slots[:-1]], slots, strict=True)]
    spare = [mpmath.mpf(b - a) / 2**128 for a, b in itertools.pairwise(edges)]
    assert len(spare) == 45
    sizes = [(len(slots) * share + (decided[v] if v < len(slots) else 0)) / 2**15 for v, share in enumerate(spare)]
    table = {x: sizes[abs(x)] / (2 if x else 1) for x in range(-44, 45)}

    def distance(pmf):
        return mpmath.fsum(abs(p - table.get(x, 0)) for x, p in pmf.items()) / 2

    assert distance(gaussian_pmf(ERROR_STD)) <= statistical_distance() < 2**-128
    assert distance(gaussian_pmf("3.2")) < 2**-50  # the float nearest to 3.2 is not 3.2
    assert 2.0**64 * statistical_distance() < 2**-70


def test_a_block_runs_out_of_spare_words_less_than_once_in_2_to_the_114():
    share, count = mpmath.mpf(len(sampling._SLOTS)) / 2**sampling._SLOT_BITS, sampling._BLOCK

    def taken(k):
        return mpmath.binomial(count, k) * share**k * (1 - share) ** (count - k)

    assert 2**-115 < mpmath.fsum(taken(k) for k in range(sampling._SPARES + 1, count + 1)) < 2**-114


def inverted(words, spares):
    """What `_invert` fills in, and whether spare values sufficed."""
    errors, work = np.empty(len(words), np.int8), np.empty((2, sampling._BLOCK), np.int16)
    return errors, sampling._invert(words, spares, sampling._SLOTS, work, errors)


def test_every_word_gives_the_value_of_its_slot_or_the_next_spare_value():
    words, slots = np.arange(2**16).astype(np.uint16), [int(slot) for slot in sampling._SLOTS]
    blocks = len(words) // sampling._BLOCK
    spares = np.arange(blocks * sampling._SPARES) % 37 + 45
    errors, sufficient = inverted(words.view(np.int16), spares)
    assert sufficient
    taken = 0
    for i, (word, error) in enumerate(zip(words, errors, strict=True)):
        place, first = int(word) >> 1, i // sampling._BLOCK * sampling._SPARES
        taken = 0 if i % sampling._BLOCK == 0 else taken
        value = spares[first + taken] if place in slots else sum(slot < place for slot in slots)
        taken += place in slots
        assert error == (-value if word & 1 else value), i


def test_spare_values_change_at_their_edges_exactly():
    edges = spare_edges()
    words = [min(max(0, edge + side), 2**128 - 1) for edge in edges for side in (-1, 0, 1)]
    upper, lower = (np.array(part, np.uint64) for part in zip(*(divmod(word, 2**64) for word in words), strict=True))
    values = np.zeros(len(words), np.int64)
    sampling._spare_values(upper, lower, sampling._HIGH_EDGES, sampling._LOW_EDGES, values)
    assert values.tolist() == [sum(edge <= word for edge in edges) for word in words]
    assert len(set(values)) > 40


def test_running_out_of_spare_words_is_an_error_not_a_wrong_value():
    class Undecided:
        def draw(self, count, dtype):
            return np.full(count, 2**63 if dtype is np.uint64 else int(sampling._SLOTS[3]) << 1).astype(dtype)

    assert gaussian_errors(Undecided(), sampling._SPARES).all()
    with pytest.raises(RuntimeError, match="ran out"):
        gaussian_errors(Undecided(), sampling._SPARES + 1)


@pytest.mark.parametrize("count", [1, 31, 1000])
def test_errors_are_a_function_of_the_stream(count):
    first = gaussian_errors(Stream(SEED), count)
    assert first.dtype == np.int8
    assert len(first) == count
    np.testing.assert_array_equal(first, gaussian_errors(Stream(SEED), count))
    if count > 100:
        assert (first != gaussian_errors(Stream(SEED, 2**40), count)).any()
