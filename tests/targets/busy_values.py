"""A thread that never rests, whose values are made anew all the time, each of the one before."""

import account


def spin():
    number = 1000
    pair = (number, -number, str(number))
    table = {"n": number, "pair": pair}
    account.tell()
    while True:
        number += 1
        pair = (number, -number, str(number))
        table = {"n": number, "pair": pair}


spin()
