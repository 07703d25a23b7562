//! A price that rose above the cap after the lease was made: said, never acted upon. Only its owner ends what is in use.

use super::Engine;
use crate::vast::Instance;

impl Engine {
    /// What to say of an instance that costs more than the cap allows; `None` where it does not, or nothing caps it.
    pub(super) fn price_warning(&self, instance: &Instance, slug: &str) -> Option<String> {
        let (price, cap) = instance.dph_total.zip(self.settings.max_dph_total)?;
        price.exceeds(cap).then(|| {
            let name = if slug.is_empty() { instance.id.to_string() } else { slug.to_owned() };
            format!(
                "price {price} is above the cap {cap}: `stop {name}` ends it; raise vast.maxDphTotal to accept the price"
            )
        })
    }
}
