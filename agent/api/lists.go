package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// listRequest is what the requests of all lists have in common.
type listRequest interface {
	GetPageSize() int32
	GetPageToken() string
	GetFilter() string
	GetReadMask() *fieldmaskpb.FieldMask
}

// place is where a page ends, as its token tells the next call.
type place struct {
	// After is the last item's key, For names the filter that it was found with.
	After string `json:"a"`
	For   string `json:"f"`
}

// selectPage returns the page of items that r asks for, with the fields that it asks for, and the token of the next page.
// sorted says that the items are in the order of their keys, so that a page can begin behind one that is gone.
func selectPage[T proto.Message](r listRequest, items []T, key func(T) string, sorted bool) (page []T, next string, err error) {
	var sample T
	f, err := parseFilter(r.GetFilter(), sample.ProtoReflect().Descriptor())
	if err != nil {
		return nil, "", pool.InField("filter", err)
	}
	mask, err := parseMask(r.GetReadMask(), sample)
	if err != nil {
		return nil, "", pool.InField("read_mask", err)
	}
	if r.GetPageSize() < 0 {
		return nil, "", pool.InField("page_size", fmt.Errorf("page_size %d: must be 0 (all) or more: %w", r.GetPageSize(), pool.ErrInvalid))
	}
	begin, err := pageBegin(r, items, key, sorted)
	if err != nil {
		return nil, "", pool.InField("page_token", err)
	}
	for _, item := range items[begin:] {
		if !f.matches(item.ProtoReflect()) {
			continue
		}
		if n := int(r.GetPageSize()); n > 0 && len(page) == n {
			return pruneAll(page, mask), placeToken(place{key(page[n-1]), filterName(r.GetFilter())}), nil
		}
		page = append(page, item)
	}
	return pruneAll(page, mask), "", nil
}

// pageBegin finds where the page begins: behind the item that the token names.
func pageBegin[T any](r listRequest, items []T, key func(T) string, sorted bool) (int, error) {
	if r.GetPageToken() == "" {
		return 0, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(r.GetPageToken())
	var p place
	if err != nil || json.Unmarshal(data, &p) != nil {
		return 0, fmt.Errorf("this page_token is none of this pool's: %w", pool.ErrInvalid)
	}
	if p.For != filterName(r.GetFilter()) {
		return 0, fmt.Errorf("this page_token belongs to a list with another filter: %w", pool.ErrInvalid)
	}
	for i, item := range items {
		if key(item) == p.After {
			return i + 1, nil
		}
		if sorted && key(item) > p.After {
			return i, nil
		}
	}
	if sorted {
		return len(items), nil
	}
	return 0, fmt.Errorf("the item that the last page ended with is not kept any more; list anew: %w", pool.ErrGone)
}

func placeToken(p place) string {
	data, err := json.Marshal(p)
	if err != nil {
		return "" // two strings always encode
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func filterName(filter string) string {
	sum := sha256.Sum256([]byte(filter))
	return hex.EncodeToString(sum[:4])
}

// maskTree is a field mask by field; an empty tree means everything below.
type maskTree map[protoreflect.Name]maskTree

func parseMask(m *fieldmaskpb.FieldMask, sample proto.Message) (maskTree, error) {
	if len(m.GetPaths()) == 0 {
		return nil, nil
	}
	if slices.Contains(m.GetPaths(), "*") {
		return nil, nil
	}
	tree := maskTree{}
	for _, path := range m.GetPaths() {
		names, err := fieldPath(path, sample.ProtoReflect().Descriptor())
		if err != nil {
			return nil, err
		}
		at := tree
		for i, f := range names {
			next, ok := at[f.Name()]
			if ok && len(next) == 0 {
				break // all of it is wanted already
			}
			if next == nil || i == len(names)-1 {
				next = maskTree{}
			}
			at[f.Name()] = next
			at = next
		}
	}
	return tree, nil
}

func pruneAll[T proto.Message](items []T, mask maskTree) []T {
	if mask != nil {
		for _, item := range items {
			prune(item.ProtoReflect(), mask)
		}
	}
	return items
}

// masked cuts one message down to what a mask names.
func masked[T proto.Message](m T, mask *fieldmaskpb.FieldMask) (T, error) {
	tree, err := parseMask(mask, m)
	if err != nil {
		return m, pool.InField("read_mask", err)
	}
	return pruneAll([]T{m}, tree)[0], nil
}

// prune clears all fields but those in keep.
func prune(m protoreflect.Message, keep maskTree) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		below, wanted := keep[f.Name()]
		switch {
		case !wanted:
			m.Clear(f)
		case len(below) == 0 || f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				prune(v.List().Get(i).Message(), below)
			}
		default:
			prune(v.Message(), below)
		}
		return true
	})
}
