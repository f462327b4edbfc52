from command_line import flip, remove, run, shard_file

import tlkit as tl


def test_verify_finds_a_store_right(undivided, capsys):
    code, said, _ = run(capsys, "verify", undivided)
    assert code == 0
    assert said == f"The store in '{undivided}' is right: 11 rows in 3 shards, every byte as it was written.\n"


def test_verify_names_every_wrong_shard_in_a_line(store, capsys):
    flip(store, 0)
    remove(store, 2)
    code, said, complaint = run(capsys, "verify", store)
    assert code == 1
    first, second = said.splitlines()
    assert first.startswith(f"Shard 0 is damaged: the bytes of {shard_file(store, 0).name} have changed")
    assert second == "Shard 2 is missing."
    assert "2 of 3 shards not right. Featurize again with the same settings" in complaint


def test_verify_says_what_the_open_store_says(store, capsys):
    opened = tl.FeatureStore(store)
    record = shard_file(store, 1, "json")
    record.write_text(record.read_text().replace('"daisy/', '"weed/', 1))
    code, said, _ = run(capsys, "verify", store)
    assert code == 1
    assert said.splitlines() == opened.verify()
    assert said


def test_where_there_is_no_store_there_is_one_sentence(tmp_path, capsys):
    for command in ("verify", "info"):
        code, said, complaint = run(capsys, command, tmp_path)
        assert (code, said) == (1, "")
        assert complaint.startswith(f"python -m tlkit {command}: There is no feature store in '{tmp_path}'.")
