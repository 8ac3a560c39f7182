# SPDX-License-Identifier: Apache-2.0
"""What every controller and the scheduler stand on.

``records`` are the few fields of an object that decisions read, ``informer`` keeps them equal to
the store, ``client`` writes, ``reconciler`` works keys off, ``events`` tells people. One informer
serves the process, so ten thousand pods are held once, in a few hundred bytes each.

There are no expectations as in client-go. The store is in this process and every write has a
revision: a reconciler waits until the informer has seen the last write of this process before it
decides again, so it cannot act twice on what it did itself.
"""
