"""What a script may say: every way round the allow-list that OpenDSS's language offers, and what honest feeders use."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.foreign import opendss_numbers as numbers
from tellegen.foreign import opendss_words as words
from tellegen.foreign.opendss_reader import Reading, read_script
from tellegen.foreign.opendss_text import lines, parameters
from tellegen.grid import load_case

FEEDERS = Path(__file__).parents[2].parent / "shared" / "data" / "feeders"
SECRET = "hush:x:0:0"
needs_engine = pytest.mark.skipif(
    pytest.importorskip("importlib.util").find_spec("dss") is None, reason="dss-python is not installed (extra `plant`)"
)


def read(tmp_path: Path, *said: str, **files: str) -> Reading:
    folder = tmp_path / "own"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.dss").write_text(content)
    path = folder / "feeder.dss"
    path.write_text("\n".join(["clear", "new circuit.c basekv=12.47 bus1=s", *said, ""]))
    return read_script(path)


def told(reading: Reading) -> list[str]:
    return [command.text for command in reading.commands][2:]


EVASIONS = {
    # Native code
    "a user's model": ("new generator.g bus1=s model=6 usermodel=profile.csv", "UserModel"),
    "abbreviated": ("new generator.g bus1=s userm=profile.csv", "UserModel"),
    "abbreviated to what the engine takes first": ("new generator.g bus1=s user=profile.csv", "UserModel"),
    "in capitals": ("NEW GENERATOR.G BUS1=S USERMODEL=PROFILE.CSV", "UserModel"),
    "in quotation marks": ('new "generator.g" "usermodel"="profile.csv"', "UserModel"),
    "by position": ("new generator.g vpu=1 1 1 1 0 1 1 1 1 1 1 1 profile.so", "UserModel"),
    "behind another property": ("new generator.g mva=1 h=1 2 profile.so", "UserModel"),
    "by a dotted assignment": ("generator.g.usermodel=profile.so", "UserModel"),
    "within an owner's name": ("'generator.g,usermodel=x.so,x.kw'=5", "name"),
    "behind a quotation mark within an owner's name": ("""'generator.g" usermodel=x.so x.kw'=5""", "name"),
    "within an object's name": ("""new 'generator.g" usermodel=x.so "x' kw=5""", "name"),
    "within the name of what is switched": ("""open 'line.l" 1 "' 1""", "name"),
    "behind a dotted assignment": ("generator.g.kw=1 shaftmodel=x.so", "ShaftModel"),
    "by edit": ("edit generator.g shaftmodel=x.so", "ShaftModel"),
    "by batch": ("batchedit generator..* usermodel=x.so", "UserModel"),
    "by more": ("new generator.g bus1=s\nmore usermodel=x.so", "UserModel"),
    "by a tilde": ("new generator.g bus1=s\n~ userdata=x", "UserData"),
    "by a tilde with comments between": (
        "new generator.g bus1=s\n! a\n// b\n/* c\n*/\n\n~ usermodel=x.so",
        "UserModel",
    ),
    "of storage": ("new storage.s bus1=s dynadll=x.so", "DynaDLL"),
    "of a photovoltaic system": ("new pvsystem.p bus1=s usermodel=x.so", "UserModel"),
    "of a capacitor's control": ("new capcontrol.c element=line.l capacitor=c type=user usermodel=x.so", "UserModel"),
    "a class without a model": ("new indmach012.i bus1=s", "class"),
    "an expression": ("new dynamicexp.d expression=[x]", "class"),
    "a class that does not exist": ("new windmill.w bus1=s", "class"),
    # Files that are written
    "a folder": ("cd /tmp", "cd"),
    "a folder for data": ("set datapath=/tmp", "datapath"),
    "a folder, abbreviated": ("set datap=/tmp", "datapath"),
    "an editor": ("set editor=/bin/sh", "editor"),
    "a file to edit": ("fileedit /etc/passwd", "fileedit"),
    "a shell": ("doscmd touch x", "doscmd"),
    "a shell, abbreviated": ("dosc touch x", "doscmd"),
    "saving": ("save circuit dir=/tmp/x", "save"),
    "saving, abbreviated": ("sav circuit dir=/tmp/x", "save"),
    "a shape that is saved": ("new loadshape.l npts=1 mult=[1] action=dblsave", "Action"),
    "a meter that is saved": ("new energymeter.m element=line.l action=save", "Action"),
    "a trace": ("new regcontrol.r transformer=t debugtrace=yes", "DebugTrace"),
    "a shape that is saved, within an owner's name": ("'loadshape.g,action=dblsave.npts'=5", "name"),
    "other names": ("obfuscate", "obfuscate"),
    "converted shapes": ("cvrtloadshapes type=dbl", "cvrtloadshapes"),
    "mapped memory": ("new loadshape.l npts=3 memorymapping=yes mult=[file=a]", "MemoryMapping"),
    # Files that are read
    "an absolute file": ("redirect /etc/passwd", "absolute"),
    "of another system": ("redirect C:\\secret.dss", "absolute"),
    "above": ("redirect ../secret.txt", "leads out"),
    "above, through below": ("redirect x/../../secret.txt", "leads out"),
    "with backslashes": ("compile ..\\..\\secret.dss", "leads out"),
    "in brackets": ("compile (../secret.txt)", "leads out"),
    "another's folder": ("redirect ../other/feeder.dss", "leads out"),
    "a list from a file": ("new loadshape.l npts=3 mult=(file=../secret.txt)", "leads out"),
    "a list from a file, in braces": ("new loadshape.l npts=3 mult={ file = /etc/passwd }", "absolute"),
    "a binary list": ("new loadshape.l npts=3 mult=[sngfile=/etc/passwd]", "absolute"),
    "another form of list": ("new loadshape.l npts=3 mult=[dblf=/etc/passwd]", "="),
    "a file for a list of names": ("new storagecontroller.s element=line.l elementlist=(file=../x)", "leads out"),
    "a file of a shape": ("new loadshape.l npts=3 csvfile=../secret.txt", "leads out"),
    "a file of a shape, by position": ("new loadshape.l npts=3 stddev=1 ../secret.txt", "leads out"),
    "a file within an owner's name": ("'loadshape.g,csvfile=/etc/passwd.npts'=5", "name"),
    "a list within an owner's name": ("'line.g mult(file x).bus1'=5", "name"),
    "a file of a spectrum": ("new spectrum.s numharm=1 csvfile=x", "CSVFile"),
    "coordinates": ("buscoords /etc/passwd", "absolute"),
    "a result": ("new loadshape.l npts=3 mult=[file=%result%]", "cannot read"),
    "the last file": ("new loadshape.l npts=3 mult=[file=@lastfile]", "variable"),
    # Variables
    "a variable": ("var @x=usermodel", "var"),
    "a variable as a value": ("new line.l bus1=@x", "variable"),
    "a variable in a list": ("new loadshape.l npts=2 mult=[1 @x]", "variable"),
    "a variable as a name": ("line.@x.bus1=5", "name"),
    "a comment within a name": ("'line.a// b.bus1'=5", "name"),
    # Counts
    "too many points": ("new loadshape.l npts=2000000000 mult=[1]", "NPts"),
    "too many points, as a real number": ("new loadshape.l npts=2e9", "NPts"),
    "too many points, computed": ("new loadshape.l npts=(2000000 1000 *)", "NPts"),
    "negative": ("new loadshape.l npts=-1", "NPts"),
    "phases": ("new line.l phases=100000 bus1=s", "Phases"),
    "phases, abbreviated": ("new line.l ph=100000 bus1=s", "Phases"),
    "phases, within an owner's name": ("'line.g,phases=100000.length'=5", "name"),
    "phases, by position": ("new line.l s b c 1 100000", "Phases"),
    "conductors": ("new linegeometry.g nconds=30000 nphases=3", "NConds"),
    "windings": ("new transformer.t windings=1000000", "Windings"),
    "a winding": ("new transformer.t wdg=1000000", "Wdg"),
    "steps": ("new capacitor.c numsteps=1000000000", "NumSteps"),
    "customers": ("new load.l bus1=s numcust=999999999999", "NumCust"),
    "nodes of a bus": ("new line.l bus1=s" + ".1" * 5000, "nodes"),
    "nodes of a bus among buses": ("new transformer.t buses=(a b" + ".1" * 5000 + ")", "nodes"),
    "words of a line": ("new line.l " + "1 " * 2000, "words"),
    "words of a line of millions": ("new line.l " + "1 " * 2_000_000, "words"),
    "words of a value": ("new loadshape.l mult=(file=x" + " y" * 2000 + ")", "words"),
    # Folders for files
    "a folder for a script": ("redirect .", "folder"),
    "a folder above a folder": ("compile sub/..", "folder"),
    "a folder for coordinates": ("buscoords ./", "folder"),
    "a folder for a list": ("new loadshape.l mult=(file=x/..)", "folder"),
    # Numbers
    "a place that is not finite": ("setbusxy bus=a x=1e999 y=2", "NUMBER"),
    "a place of two numbers": ("setbusxy bus=a x='1 2' y=3", "NUMBER"),
    "a place without a name": ("setbusxy '' 1 2", "bus=NAME"),
    # What cannot be read
    "a word that is no command": ("launch rockets", "launch"),
    "a word that is no property": ("new line.l bus1=s colour=3", "colour"),
    "a word that is no option": ("set colour=3", "colour"),
    "an option without a name": ("set 3", "option"),
    "an option of a solution": ("solve datapath=/tmp", "datapath"),
    "a value too many": ("new swtcontrol.s a 1 open no 1 closed closed no 60 yes x y", "too many"),
    "an open bracket": ("new line.l bus1=(s", "not closed"),
    "an open quotation mark": ('new line.l bus1="s', "not closed"),
    "control characters": ("new line.l bus1=s\x07", "control"),
    "control characters in a name": ("'line.a\x1b[2Jb.bus1'=x", "control"),
    "a tabulator in a name": ("'line.a\tb.bus1'=x", "control"),
    "nothing to continue": ("solve\n~ kw=3", "~"),
    "a property of nothing": ("kw=3", "property"),
    "a name that no terminal should see": ("\x1b]0;x\x07 a", "cannot be read"),
    "actors": ("newactor", "newactor"),
    "threads": ("set parallel=yes", "parallel"),
    "'open' with more than numbers": ("open line.l 1 usermodel=x", "terminal"),
}


@pytest.mark.parametrize("name", EVASIONS)
def test_an_evasion_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    said, word = EVASIONS[name]
    (tmp_path / "secret.txt").write_text(SECRET)
    with pytest.raises(InputError) as refusal:
        read(tmp_path, *said.split("\n"))
    line = str(refusal.value)
    assert word in line
    assert re.search(r"feeder\.dss: line \d+", line)
    assert "hush" not in line
    assert line.isprintable()
    assert len(line) < 500


@pytest.mark.parametrize("verb", ["redirect {}", "new loadshape.l npts=3 mult=(file={})", "buscoords {}"])
def test_only_regular_files_reached_without_a_link_are_read(verb: str, tmp_path: Path) -> None:
    """A pipe would wait for ever, a link shows what its maker cannot read."""
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    own = tmp_path / "own"
    (own / "folder").mkdir(parents=True)
    os.mkfifo(own / "pipe")
    os.symlink(secret, own / "link")
    os.symlink(tmp_path, own / "way")
    for name in ("pipe", "link", "way/secret.txt", "folder", "folder/nothing"):
        with pytest.raises(InputError) as refusal:
            read(tmp_path, verb.format(name))
        assert "hush" not in str(refusal.value)


def test_the_script_itself_is_no_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    (tmp_path / "own").mkdir()
    os.symlink(secret, tmp_path / "own" / "feeder.dss")
    with pytest.raises(InputError, match="is a link"):
        read_script(tmp_path / "own" / "feeder.dss")


@pytest.mark.parametrize("content", [SECRET, "new load.secret bus1=s", "redirect secret", "new linecode.c secret=1"])
def test_of_a_file_beside_the_folder_nothing_is_shown(content: str, tmp_path: Path) -> None:
    """IEEE's feeders share line codes by ``redirect ../IEEELineCodes.dss``; whatever else lies there stays there."""
    (tmp_path / "codes.dss").write_text("new linecode.c nphases=1 r1=1\n~ x1=2\n")
    assert told(read(tmp_path, "redirect ../codes.dss")) == ["new linecode.c NPhases=1 R1=1", "more X1=2"]
    (tmp_path / "codes.dss").write_text(content)
    with pytest.raises(InputError, match="beside") as refusal:
        read(tmp_path, "redirect ../codes.dss")
    assert "secret" not in str(refusal.value)


@needs_engine
def test_the_engine_shows_nothing_of_a_file_beside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "codes.dss").write_text("new linecode.c nphases=1 r1=secret\n")
    (tmp_path / "own").mkdir()
    path = tmp_path / "own" / "feeder.dss"
    path.write_text("clear\nnew circuit.c\nredirect ../codes.dss\n")
    with pytest.raises(InputError, match="beside") as refusal:
        load_case(str(path))
    assert "secret" not in str(refusal.value)


def test_rings_and_depth_of_redirects_end(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ring"):
        read(tmp_path, "redirect feeder.dss")
    with pytest.raises(InputError, match="ring"):
        read(tmp_path, "redirect a.dss", a="compile b.dss", b="redirect ./x/../a.dss")
    chain = {f"s{k}": f"redirect s{k + 1}.dss" for k in range(30)}
    with pytest.raises(InputError, match="within 20 scripts"):
        read(tmp_path, "redirect s0.dss", **chain)


def test_files_that_multiply_come_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten files, each reading the next ten times, are ten thousand million."""
    tree = {f"s{k}": f"redirect s{k + 1}.dss\n" * 10 for k in range(9)} | {"s9": ""}
    with pytest.raises(InputError, match="files"):
        read(tmp_path, "redirect s0.dss", **tree)
    monkeypatch.setattr("tellegen.foreign.opendss_reader.BYTES_MAX", 1000)
    with pytest.raises(InputError, match="too much"):
        read(tmp_path, "redirect big.dss", big="!" * 2000)
    monkeypatch.setattr("tellegen.foreign.opendss_reader.BYTES_MAX", 10**6)
    monkeypatch.setattr("tellegen.foreign.opendss_reader.COMMANDS_MAX", 100)
    with pytest.raises(InputError, match="commands"):
        read(tmp_path, *(f"new line.l{k}" for k in range(200)))


def test_words_are_written_anew_in_full(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        'New Object="line.a b" s , b.1.2 lengt = 2 UNITS=km // a comment',
        "~ norm=(100 2 *), swi=n ! another",
        "/* new line.x",
        "*/ new line.y",
        "line.a.length=3 units=mi",
        "Transformer.t.wdg=2 Tap=(0.00625 7 * 1 +)",
        "sol mode=snap num=1",
        "calcv",
        "open Line.a term=2 cond=1",
        "new energymeter.m LINE.a 1",
        "set voltageb=[11, 0.4]",
        "new loadshape.l npts=2 mult=[1 2] act=norm",
        "new energymeter.f element=line.l term=1 option=R action=C peakcurrent=(466,469,452)",
        "setkvbase bus=b kvln=7.2",
    )
    assert told(reading) == [
        'new "line.a b" Bus1=s Bus2=b.1.2 Length=2 Units=km',
        "more NormAmps=(100 2 *) Switch=n",
        'edit "line.a" Length=3 Units=mi',
        'edit "Transformer.t" Wdg=2 Tap=(0.00625 7 * 1 +)',
        "solve mode=snap number=1",
        "Calcvoltagebases",
        "open Line.a 2 1",
        "new energymeter.m Element=LINE.a Terminal=1",
        "set Voltagebases=[11, 0.4]",
        "new loadshape.l NPts=2 Mult=[1 2] Action=normalize",
        "new energymeter.f Element=line.l Terminal=1 Option=R Action=clear PeakCurrent=(466,469,452)",
        "SetkVBase Bus=b kVLN=7.2",
    ]


def test_files_of_numbers_become_numbers(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "sub").mkdir(parents=True)
    (own / "sub" / "one.txt").write_text("1\r\n2.5\r\n-3e-1\r\n")
    (own / "two.csv").write_text("h,p,q\n0,1,2\n1,3,4\n")
    (own / "hours.csv").write_text("0 1 2\n1 3 4\n")
    (own / "four.sng").write_bytes(struct.pack("<3f", 1, 2, 0.5))
    (own / "eight.dbl").write_bytes(struct.pack("<2d", 1, 2))
    (own / "sub" / "inner.dss").write_text("new tshape.t npts=3 csvfile=one.txt\n")
    reading = read(
        tmp_path,
        "new loadshape.a npts=3 mult=(file=sub/one.txt)",
        "new loadshape.b npts=2 mult=[file=two.csv, column=2, header=yes] qmult=[file=two.csv, column=3, header=y]",
        "new loadshape.c npts=3 mult=[sngfile=four.sng]",
        "new loadshape.d npts=3 interval=1 csvfile=sub\\one.txt",
        "new loadshape.e npts=2 interval=0 pqcsvfile=hours.csv",
        "new loadshape.f npts=2 dblfile=eight.dbl",
        "redirect sub/inner.dss",
    )
    assert told(reading) == [
        "new loadshape.a NPts=3 Mult=[1 2.5 -3e-1]",
        "new loadshape.b NPts=2 Mult=[1 3] QMult=[2 4]",
        "new loadshape.c NPts=3 Mult=[1.0 2.0 0.5]",
        "new loadshape.d NPts=3 Interval=1 Mult=[1 2.5 -3e-1]",
        "new loadshape.e NPts=2 Interval=0 Hour=[0 1] Mult=[1 3] QMult=[2 4]",
        "new loadshape.f NPts=2 Mult=[1.0 2.0]",
        "new tshape.t NPts=3 Temp=[1 2.5 -3e-1]",
    ]
    (own / "two.csv").write_text("1\nnan\n")
    with pytest.raises(InputError, match="numbers"):
        read(tmp_path, "new loadshape.b npts=2 mult=[file=two.csv]")


@pytest.mark.parametrize("interval", ["." * 4_000_000 + "a", "0" * 4_000_000 + ".a", "(1 1 -)", "a", "1e999"])
@pytest.mark.parametrize("name", ["interval", "sinterval", "minterval"])
def test_an_interval_that_a_file_is_read_by_is_a_number(name: str, interval: str, tmp_path: Path) -> None:
    """Whether it is 0 decides what the file's columns are; it may be long, too."""
    with pytest.raises(InputError, match="interval that is no number"):
        read(tmp_path, f"new loadshape.l {name}={interval} csvfile=a.dss", a="1 2\n")


def test_the_interval_said_last_is_that_of_the_file(tmp_path: Path) -> None:
    said = ["interval=(0.0)", "interval=1 sint='-0e5'", "interval=0 minterval=5", "interval=0d0"]
    found = told(read(tmp_path, *(f"new loadshape.l {one} csvfile=a.dss" for one in said), a="3 4\n"))
    assert ["Hour=[3]" in one for one in found] == [True, True, False, True]


def test_a_file_of_numbers_is_counted_before_it_is_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tellegen.foreign.opendss_numbers.VALUES_MAX", 3)
    for said in ("new loadshape.l mult=(file=a.dss)", "new loadshape.l csvfile=a.dss"):
        for end in ("\n", "\r\n", "\r"):
            assert told(read(tmp_path, said, a=f"1{end}2{end}3{end}")) == ["new loadshape.l Mult=[1 2 3]"]
            with pytest.raises(InputError, match="more than 3 values"):
                read(tmp_path, said, a=f"1{end}" * 4)
    assert len(read(tmp_path, "buscoords a.dss", a="a 1 2\nb 1 2\nc 1 2\n").coordinates) == 3
    with pytest.raises(InputError, match="more than 3 lines"):
        read(tmp_path, "buscoords a.dss", a="a 1 2\n" * 4)


def test_of_a_row_no_more_is_taken_apart_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    cell = numbers._cell
    monkeypatch.setattr(numbers, "_cell", lambda row, column: taken.append(len(row)) or cell(row, column))
    row = "1 2 3 " * 100_000
    assert told(read(tmp_path, "new loadshape.l mult=(file=a.dss, column=2)", a=row)) == ["new loadshape.l Mult=[2]"]
    assert taken == [3]


def test_reports_count_as_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tellegen.foreign.opendss_reader.COMMANDS_MAX", 10)
    with pytest.raises(InputError, match="commands"):
        read(tmp_path, *["show"] * 20)


def test_exponents_may_be_written_as_fortran_writes_them(tmp_path: Path) -> None:
    reading = read(tmp_path, "setbusxy a 1d5 -2D-1", "new loadshape.l mult=(file=a.dss)", a="1d2\n2E3\n")
    assert reading.coordinates == {"a": (1e5, -0.2)}
    assert told(reading) == ["new loadshape.l Mult=[1e2 2e3]"]
    for content in ("1e999", "1d999", "inf", "\u0661"):
        with pytest.raises(InputError, match="finite"):
            read(tmp_path, "new loadshape.l mult=(file=a.dss)", a=content)
        with pytest.raises(InputError, match="bus, x and y"):
            read(tmp_path, "buscoords a.dss", a=f"a 1 {content}")


def test_coordinates_are_read_here(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "xy.csv").write_text('! map\n// Busname, x, y\nS, 1.5, -2\n"b" 3 4e0\n')
    (own / "ll.csv").write_text("d, 47.1, 8.5\n")
    reading = read(tmp_path, "Buscoords xy.csv", "setbusxy bus=c x=5 y=6", "latlongcoords ll.csv")
    assert reading.coordinates == {"s": (1.5, -2.0), "b": (3.0, 4.0), "c": (5.0, 6.0), "d": (8.5, 47.1)}
    assert told(reading) == []


def test_reports_are_left_out_and_named(tmp_path: Path) -> None:
    reading = read(
        tmp_path, "solve", "export voltages /tmp/x", "Show taps", "? load.a.kw", "set showexport=y loadmult=2"
    )
    assert told(reading) == ["solve", "set Loadmult=2"]
    assert reading.left_out == {"export", "show", "?", "set showexport"}


@pytest.mark.parametrize(
    "name",
    [
        "ieee13/IEEE13Nodeckt.dss",
        "ieee123/IEEE123Master.dss",
        "ieee123/Run_IEEE123Bus.DSS",
        "european-lv/Master.dss",
        "ieee8500/Master.dss",
        "ieee8500/Master-unbal.dss",
        "ieee8500/Run_8500Node_Unbal.dss",
    ],
)
def test_the_feeders_of_the_field_are_read(name: str) -> None:
    path = FEEDERS / name
    if not path.is_file():
        pytest.skip("the test feeders are not here (../shared)")
    assert len(read_script(path).commands) > 100


@pytest.fixture(scope="module")
def engine() -> Any:
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    from tellegen.foreign.opendss_engine import quiet_engine

    return quiet_engine()


def test_the_engine_knows_the_words_in_this_order(engine: Any) -> None:
    executive = engine.Executive
    assert tuple(executive.Command(k + 1) for k in range(executive.NumCommands)) == words.COMMANDS
    assert tuple(executive.Option(k + 1) for k in range(executive.NumOptions)) == words.OPTIONS
    for kind, names in words.PROPERTIES.items():
        engine.Text.Command = "clear"
        engine.Text.Command = "new circuit.c"
        with contextlib.suppress(Exception):  # some are made, and then found to lack what they belong to
            engine.Text.Command = f"new {kind}.z" if kind != "Vsource" else "edit vsource.source"
        engine.ActiveCircuit.SetActiveClass(kind)
        assert tuple(engine.ActiveCircuit.ActiveDSSElement.AllPropertyNames) == names, kind
    every = set(words.PASSED) | set(words.LEFT_OUT)
    assert every <= set(words.COMMANDS)
    assert set(words.OPTIONS) >= words.OPTIONS_PASSED | words.OPTIONS_LEFT_OUT


@pytest.mark.parametrize("kind", ["Line", "Load", "Generator", "Transformer", "Capacitor", "LoadShape"])
def test_an_abbreviation_means_what_it_means_to_the_engine(kind: str, engine: Any, tmp_path: Path) -> None:
    """Each beginning of each name: told to the engine as it stands and as we write it, it changes the same property."""
    names = words.PROPERTIES[kind]

    def state(*said: str) -> list[str]:
        for command in ("clear", "new circuit.c", f"new {kind}.z", *said):
            engine.Text.Command = command
        element = engine.ActiveCircuit.ActiveDSSElement
        # A capacitor's matrix that was never set is printed as whatever lies in memory.
        return [element.Properties(name).Val for name in element.AllPropertyNames if name != "CMatrix"]

    from tellegen.foreign.opendss_reader import _resolved

    for name in ("kW", "kvar", "PF", "Length", "Units", "Phases", "NormAmps", "Interval", "NPts", "Windings", "XHL"):
        if name not in names:
            continue
        for short in {name.lower()[:k] for k in range(1, len(name) + 1)}:
            meant = _resolved(short, names)
            if meant in words.REFUSED[kind] or meant in ("Like", "Spectrum", "Phases"):
                continue
            try:
                as_it_stands = state(f"edit {kind}.z {short}=2")
            except Exception:
                continue
            assert as_it_stands == state(f"edit {kind}.z {meant}=2"), (short, meant)


TEXT = st.text(alphabet="abc.=,()[]{}\"'!/@~ \t0123456789-eusrmodlfi\\", max_size=60)


@given(TEXT)
def test_any_line_is_read_or_refused(line: str) -> None:
    """No line makes the reader fail otherwise, and what is read is written so that it reads the same."""
    try:
        said = parameters(line)
    except ValueError:
        return
    again = " ".join(
        f'"{p.name}"={p.token}' if p.name else p.token for p in said if p.name is None or '"' not in p.name
    )
    assert [(p.name, p.token) for p in parameters(again)] == [
        (p.name, p.token) for p in said if p.name is None or '"' not in p.name
    ]


@given(st.text(alphabet='ab.=,()[]{}"!/@ \t\x1b-kw', max_size=20))
def test_no_name_brings_words_of_its_own(name: str) -> None:
    """Whatever stands within quotation marks for a name: the engine is told of one object and of one property."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.dss"
        for line in (f"'{name}'=5", f"'generator.{name}.kw'=5", f"edit 'generator.{name}' kw=5"):
            path.write_text(line)
            try:
                commands = read_script(path).commands
            except InputError:
                continue
            (command,) = commands
            verb, of, value = parameters(command.text)
            assert (verb.token, value.name, value.token) == ("edit", "kW", "5")
            assert of.name is None
            assert of.value.isprintable()
            assert not re.search(r"[,=()\[\]{}!@\"']|//", of.value)


@given(
    st.lists(
        st.sampled_from(["new generator.g ", "~ ", "usermodel=", "u=", "x", " ", '"', "(", ")", "kw=1 "]), max_size=9
    )
)
def test_whatever_is_joined_together_no_refused_word_comes_through(pieces: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.dss"
        path.write_text("".join(pieces))
        try:
            commands = read_script(path).commands
        except InputError:
            return
    for command in commands:
        assert not re.search(r"(?i)\b(user|shaft|dyna)\w*\s*=", command.text)


def test_block_comments_and_ends_of_lines() -> None:
    found = [line for _, line in lines("a\r\n/* b\nc */ d\ne\rf\n\x1a")]
    assert found == ["a", "e", "f"]


@needs_engine
def test_a_hostile_script_ends_in_one_line_and_writes_nothing(tmp_path: Path, tellegen: Callable[..., Any]) -> None:
    """The command: status 2, one line, nothing beside the script."""
    path = tmp_path / "feeder.dss"
    for said in ("new generator.g bus1=s model=6 usermodel=p.csv", "redirect feeder.dss", "new loadshape.l npts=2e9"):
        path.write_text(f"clear\nnew circuit.c basekv=12.47 bus1=s\n{said}\nsolve\n")
        answer = tellegen("powerflow", "--network", path)
        assert answer.status == 2
        assert len(answer.err.strip().splitlines()) == 1
        assert [p.name for p in tmp_path.iterdir()] == ["feeder.dss"]
