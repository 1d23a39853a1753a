"""A regulated line, for the tests of what moves on a network."""

from dataclasses import replace

import pytest

from tellegen.grid import Case, load_case


@pytest.fixture(scope="session")
def regulated(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A regulator at the head of a long line, and a capacitor bank of two steps at its end."""
    path = tmp_path_factory.mktemp("regulated") / "circuit.dss"
    path.write_text(
        "clear\nnew circuit.small basekv=12.47 pu=1.0 bus1=s r1=0.1 x1=0.5 r0=0.2 x0=0.7\n"
        "new transformer.t phases=3 windings=2 buses=(s a) kvs=(12.47 12.47) kvas=(5000 5000) xhl=0.5 %rs=(0.1 0.1)\n"
        "new line.l bus1=a bus2=b r1=1.5 x1=3 r0=3 x0=8 c1=0 c0=0\n"
        "new capacitor.k bus1=b phases=3 kvar=(300 300) kv=12.47 numsteps=2 states=(1 0)\n"
        "new capcontrol.k capacitor=k element=line.l terminal=2 type=voltage ptratio=60 on=117 off=123\n"
        "new regcontrol.r transformer=t winding=2 vreg=122 band=1.5 ptratio=60 r=5 x=9 ctprim=200\n"
        "new load.a bus1=b.1 phases=1 kv=7.2 kw=1 kvar=1\nset voltagebases=[12.47 4.16]\ncalcvoltagebases\nsolve\n"
    )
    case = load_case(str(path))
    return replace(case, network=replace(case.network, v_min=case.network.v_min * 0 + 0.5))
