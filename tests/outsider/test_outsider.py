"""An outsider attacks their own model, with public names only and without registering or wrapping anything."""

import pytest
import torch
from their_model import TheirStreams, make

my_net, wave, frames, y = make()


def test_the_five_lines(capsys):
    # fmt: off
    import avrobust as avr
    model  = lambda x: my_net(x.audio, x.visual)  # noqa: E731
    batch  = avr.Batch(x=avr.AV(audio=wave, visual=frames), label=y)
    threat = avr.Threat.linf(audio=0.002, visual="4/255")
    print(avr.evaluate(model, [batch], [avr.PGD(steps=40)], threat).table())
    # fmt: on
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6  # a header, clean, A, V, AV; and what raises doubt
    assert lines[5].startswith("alarm: The smallest cell has 12 clips")
    assert "100.0 % of 12" in lines[1]
    assert lines[4].split()[1:3] == ["PGD-40", "audio"] and "visual linf" in lines[4]


def test_their_own_attack_is_a_function():
    import avrobust as avr

    def noise(model, x, y, threat, seeds):
        return threat.map(lambda ball, s: s + ball.random(s, seeds, "noise"), x)

    batch = avr.Batch(x=avr.AV(audio=wave, visual=frames), label=y)
    rows = avr.evaluate(lambda x: my_net(x.audio, x.visual), [batch], [noise], avr.Threat.linf(audio=0.01))
    assert rows.where(attack="noise").column("linf_audio").max() <= 0.01 + 1e-7
    assert rows.where(attack="noise").column("linf_audio").min() > 0


def test_their_own_attack_is_checked():
    import avrobust as avr

    def careless(model, x, y, threat, seeds):
        return avr.AV(audio=x.audio, visual=(x.visual + 0.1).clamp(0, 1))

    batch = avr.Batch(x=avr.AV(audio=wave, visual=frames), label=y)
    with pytest.raises(avr.BudgetError, match="careless left its visual budget"):
        avr.evaluate(lambda x: my_net(x.audio, x.visual), [batch], [careless], avr.Threat.linf(visual="2/255"))


def test_their_own_objective():
    import avrobust as avr

    def quiet(out, y):
        return -out.logits.logsumexp(1)

    batch = avr.Batch(x=avr.AV(audio=wave, visual=frames), label=y)
    adv = avr.PGD(objective=quiet)(
        lambda x: my_net(x.audio, x.visual), batch.x, y, avr.Threat.linf(audio=0.01), avr.Seeds(0, batch.ids)
    )
    with torch.no_grad():
        assert (my_net(adv.audio, adv.visual).logsumexp(1) <= my_net(wave, frames).logsumexp(1)).all()


def test_their_two_streams_are_attacked_stream_by_stream():
    """The same rows as of the model as a whole; the stream that is not attacked runs once."""
    import avrobust as avr

    net = TheirStreams().eval()
    net.net.load_state_dict(my_net.state_dict())
    batch, runs = avr.Batch(x=avr.AV(audio=wave, visual=frames), label=y), []
    hook = lambda module, args, out: runs.append(len(out)) if len(out) > 2 else None  # noqa: E731
    net.net.eye.register_forward_hook(hook)
    threat = avr.Threat.linf(audio=0.002)
    rows, plain = (avr.evaluate(m, [batch], [avr.PGD(steps=20)], threat) for m in (net, lambda x: net(x)))
    for column in ("pred", "correct"):
        assert rows.column(column).tolist() == plain.column(column).tolist()
    runs.clear()
    avr.PGD(steps=20)(net, batch.x, y, threat, avr.Seeds(0, batch.ids))
    assert runs == [len(batch)]
