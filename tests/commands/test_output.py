from tlkit.commands import output


def test_names_that_no_encoding_has_can_be_said(capsys):
    output.say("caf\udce9")
    assert capsys.readouterr().out == "caf\\udce9\n"


def test_nothing_steers_the_terminal_and_lines_stay_lines(capsys):
    output.say("rose\x1b[31m\n\u202etulip")
    output.complain("a\r\x07b")
    assert capsys.readouterr() == ("rose\\x1b[31m\n\\u202etulip\n", "a\\r\\x07b\n")
    assert output.few(["ro\nse", 2]) == r"ro\nse, 2"
    output.progress_bar(1, text="sto\x1b[1mre", unit="rows").close()
    assert "\x1b[1m" not in capsys.readouterr().err
