"""The drop-in inside other frameworks' loops; each module needs its extra (`bdp_ext[lightning]`,
`bdp_ext[accelerate]`)."""
