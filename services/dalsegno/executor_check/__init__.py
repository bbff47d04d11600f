"""Check anybody's executor: play the engine on its stream, and compare what it does with the contract.

A check is data (`checks/`): a name, the rule of the contract, and steps. A step (`steps.py`) sends something or waits
for something; the first step that is not met ends the check. The engine's side of one stream is in `line.py`.
"""
