"""The answer fuzzer: whatever may be answered to a charge, whatever was executed, and all that callers do.

One case is one intent, one machine at a time, and a provider whose ledger is the truth. Each request is delivered once
or twice, at once or up to an hour later; each delivery is executed, refused or lost; what the caller reads of it is the
provider's own answer, a damaged one, a box's, or none. Then people and machines act at drawn times, nights run, and the
ledger is compared with every word that was said.

    lengths.py    what a case draws: the lengths of the published model, switches, times of actions
    provider.py   the ledger, the keys and the lists; executions under way; charges that appear late
    bodies.py     the answers' bodies: the provider's own errors, objects of ours and of others, and none of all that
    network.py    deliveries and what is read of them: own, damaged, a box's; clocks; whole exchanges
    machine.py    a real Client on a clock that may be wrong or stand still
    case.py       one case: its actions, and how it comes to rest
    judge.py      what must hold, and the two residuals that the published model leaves
    campaign.py   cases by the thousand on all cores
    plants.py     rules broken on purpose: each must be seen

`python -m tests.answers N --seed S` runs cases from seed S on until N answers were drawn; N = 1 tells the story of one.

The rules of this world, beside the bounds of `gateways/stripe_bounds.py`:

- A box (proxy, filter, cache, captive portal) says anything under any status, in the provider's form as well, and with
  any headers; but it never names our idempotency key in an answer of its own. It could: the key is in the request that
  it sees. That no box echoes it is part of the model, as it is of every protocol that matches answers by an id.
- An answer with the right echo has passed the provider. Its status may be changed on the way; its body may be cut, or
  replaced by a page that is not in the provider's form; its headers may be lost.
- An object of ours is only ever shown if the provider has it, as it truly is when it is shown. An object of another
  payment may be shown in place of it, anywhere.
- Questions are answered by the provider, or by a box: with a page, an error, foreign JSON, another list, or the
  provider's own earlier answer with its `Age`. An earlier answer that hides its age is no older than the model allows
  an answer to be wrong: five minutes for the time, two hours for lists.
- The provider's own answers echo the key; on errors that depends on the case.
- `created` of what a 500 leaves behind is the moment when it appears, as in the sandbox.
"""
