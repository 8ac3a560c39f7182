// SPDX-License-Identifier: Apache-2.0
//! Takes a store of an older layout to this one, a step at a time, each step in one transaction.

use heed::RwTxn;

use crate::store::db::{Lmdb, from_heed};
use crate::store::meta::Parsed;
use crate::store::record::Record;
use crate::store::seal::Seal;
use crate::{Error, Kind, Result};

/// The layout of what this code writes.
pub(crate) const SCHEMA: u64 = 2;
/// The first layout; the step at index n leads from layout n + 1 to the next.
const FIRST: u64 = 1;
const STEPS: [Step; 1] = [links_beside_objects];

type Step = fn(&Lmdb, &mut RwTxn<'_>, Option<&Seal>) -> Result<()>;

/// Brings the store to `SCHEMA`; `Invalid` when a newer kedge wrote it.
pub(crate) fn migrate(lmdb: &Lmdb, seal: Option<&Seal>) -> Result<()> {
    loop {
        let mut txn = lmdb.write()?;
        let found = lmdb.number(&txn, "schema")?;
        if found == SCHEMA {
            return Ok(());
        }
        if found > SCHEMA {
            let message =
                format!("store of a newer kedge: schema {found}, this one reads up to {SCHEMA}");
            return Err(Error::new(Kind::Invalid, message));
        }
        let next = if found == 0 { SCHEMA } else { found + 1 };
        let step =
            usize::try_from(found.saturating_sub(FIRST)).ok().and_then(|index| STEPS.get(index));
        let done = match step.filter(|_| found > 0) {
            Some(step) => step(lmdb, &mut txn, seal),
            None => Ok(()),
        };
        let done = done.and_then(|()| lmdb.set_number(&mut txn, "schema", next));
        match done.and_then(|()| txn.commit().map_err(|error| from_heed(&error))) {
            Ok(()) => log::info!(target: "kedge.store", "store is at schema {next}"),
            Err(error) if error.kind == Kind::Full && error.message.contains("MDB_MAP_FULL") => {
                lmdb.grow()?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// 1 to 2: what an object is indexed by lies beside its JSON, so that a change need not read it.
fn links_beside_objects(lmdb: &Lmdb, txn: &mut RwTxn<'_>, seal: Option<&Seal>) -> Result<()> {
    let keys = lmdb.objects.iter(txn).map_err(|error| from_heed(&error))?;
    let keys = keys.map(|entry| entry.map(|(key, _)| key.to_vec())).collect::<Result<Vec<_>, _>>();
    for key in keys.map_err(|error| from_heed(&error))? {
        let Some(old) = lmdb.objects.get(txn, &key).map_err(|error| from_heed(&error))? else {
            continue;
        };
        let (mut record, sealed) = Record::decode_first(&key, old, seal)?;
        record.links = Parsed::of(&record.value)?.links;
        let bytes = record.encode(&key, seal.filter(|_| sealed))?;
        lmdb.objects.put(txn, &key, &bytes).map_err(|error| from_heed(&error))?;
    }
    Ok(())
}
