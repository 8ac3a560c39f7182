# SPDX-License-Identifier: Apache-2.0
"""CertificateSigningRequests: nodes' are approved, approved ones signed, old ones removed.

``rules`` is what each signer signs, ``plan`` what becomes of a request, ``controller`` does it.
"""
